"""SAM asked with single points: a crop is encoded once, every point is answered with three masks, one per level.

The same numbers as `segment_anything.SamPredictor`, computed in the order that saves work: the predicted IoU of a mask
comes from the prompt's tokens alone, so pixels are only computed for the masks that are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from PIL import Image
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torch.nn.functional import pad


@dataclass(frozen=True)
class Frame:
    """Where a crop lies in its image."""

    box: tuple[int, int, int, int]  # x, y of its first pixel and of the one after its last
    size: tuple[int, int]  # height, width of the image

    @property
    def pixels(self) -> int:
        """Count the pixels of the crop."""
        return max(0, self.box[2] - self.box[0]) * max(0, self.box[3] - self.box[1])


@runtime_checkable
class PointPredictor(Protocol):
    """What the generator asks of a model that turns points into masks; any crop and answer that it can read itself."""

    mask_threshold: float  # on the logits

    def encode_crop(self, image: UInt8[np.ndarray, "H W 3"], frame: Frame) -> Any:
        """Do, once, all that the points in a crop of the image have in common."""

    def answer_points(self, crop: Any, points: Float64[np.ndarray, "Q 2"]) -> Any:
        """Predict the IoU of three masks for each point (x, y in pixels of the crop), as `answer.iou`, (Q, 3)."""

    def draw_masks(self, answer: Any, wanted: Bool[Tensor, "Q 3"]) -> Float[Tensor, "M h w"]:
        """Compute the logits of the wanted masks, point by point, at the model's own resolution."""

    def enlarge_masks(self, crop: Any, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Bring logits to the size of the crop."""


@dataclass(frozen=True)
class Crop:
    """An encoded crop."""

    embedding: Float[Tensor, "1 E h w"]  # what SAM's decoder attends to
    positions: Float[Tensor, "1 E h w"]
    size: tuple[int, int]  # height, width in the image
    input_size: tuple[int, int]  # height, width in the square that SAM sees, the rest of it being padding


@dataclass(frozen=True)
class Answer:
    """What SAM's decoder says about Q points before it draws masks."""

    iou: Float[Tensor, "Q 3"]
    tokens: Float[Tensor, "Q 4 E"]  # one per mask; the first belongs to SAM's single-mask mode
    image: Float[Tensor, "Q N E"]  # the crop as each point has changed it
    grid: tuple[int, int]  # N = h * w


class SamPoints(nn.Module):
    """Let a `segment_anything` SAM of any input size answer points."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        self.mask_threshold = sam.mask_threshold

    def encode_crop(self, image: UInt8[np.ndarray, "H W 3"], frame: Frame) -> Crop:
        """Resize the crop to SAM's input as SAM does, and run the image encoder."""
        left, top, right, bottom = frame.box
        pixels = image[top:bottom, left:right]
        height, width = pixels.shape[:2]
        sides = ResizeLongestSide.get_preprocess_shape(height, width, self.sam.image_encoder.img_size)
        input_size = (max(1, sides[0]), max(1, sides[1]))
        resized = Image.fromarray(pixels).resize(input_size[::-1], Image.Resampling.BILINEAR)
        inputs = torch.from_numpy(np.array(resized)).to(self.sam.device).permute(2, 0, 1)[None]
        features = self.sam.image_encoder(self.sam.preprocess(inputs))
        _, no_mask = self.sam.prompt_encoder(points=None, boxes=None, masks=None)
        positions = self.sam.prompt_encoder.get_dense_pe()
        return Crop(features + no_mask, positions, (height, width), input_size)

    def answer_points(self, crop: Crop, points: Float64[np.ndarray, "Q 2"]) -> Answer:
        """Run SAM's prompt encoder and the transformer of its decoder."""
        decoder, amount = self.sam.mask_decoder, len(points)
        prompts = self._encode_points(crop, points)
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(amount, -1, -1)

        # crop and positions are the same for all points: expanded, not copied
        tokens, image = decoder.transformer(
            crop.embedding.expand(amount, -1, -1, -1),
            crop.positions.expand(amount, -1, -1, -1),
            torch.cat([outputs, prompts], dim=1),
        )
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        return Answer(
            iou, tokens[:, 1 : 1 + decoder.num_mask_tokens], image, (crop.embedding.shape[2], crop.embedding.shape[3])
        )

    def draw_masks(self, answer: Answer, wanted: Bool[Tensor, "Q 3"]) -> Float[Tensor, "M h w"]:
        """Run the rest of SAM's decoder for the points with a wanted mask."""
        decoder, wanted = self.sam.mask_decoder, wanted.to(self.sam.device)
        asked = wanted.any(1)
        if asked.sum() == 1:
            asked[:2] = True  # a batch of one would take other kernels on a CPU, which round otherwise
        image = answer.image[asked].transpose(1, 2).unflatten(2, answer.grid)
        pixels = decoder.output_upscaling(image)
        readers = zip(decoder.output_hypernetworks_mlps, answer.tokens.unbind(1), strict=True)
        weights = torch.stack([read(token) for read, token in readers], dim=1)[asked]
        logits = (weights @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        return logits[:, 1:][wanted[asked]]

    def enlarge_masks(self, crop: Crop, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Resize to SAM's input, cut the padding off, resize to the crop."""
        # in threes, as SAM does: with other numbers of channels the resize on a CPU rounds otherwise
        threes = pad(logits, (0, 0, 0, 0, 0, -len(logits) % 3)).unflatten(0, (-1, 3))
        return self.sam.postprocess_masks(threes, crop.input_size, crop.size).flatten(0, 1)[: len(logits)]

    def _encode_points(self, crop: Crop, points: Float64[np.ndarray, "Q 2"]) -> Float[Tensor, "Q 2 E"]:
        (height, width), (input_height, input_width) = crop.size, crop.input_size
        scaled = torch.from_numpy(points * [input_width / width, input_height / height])
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=self.sam.device)
        coordinates = scaled.to(self.sam.device)[:, None]
        prompts, _ = self.sam.prompt_encoder(points=(coordinates, labels), boxes=None, masks=None)
        return prompts
