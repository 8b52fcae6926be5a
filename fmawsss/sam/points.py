"""SAM asked with single points: a crop is encoded once, every point is answered with three masks,
one per level.

The same numbers as `segment_anything.SamPredictor`, up to rounding, computed in the order that
saves work: the predicted IoU of a mask comes from the prompt's tokens alone, so pixels are only
computed for the masks that are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from PIL import Image
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn

from fmawsss.sam.decoder import Decoded, PointDecoder, PreparedCrop
from fmawsss.sam.encoder import EncoderWrapper
from fmawsss.sam.mask_resize import Resize, join_resizes


@dataclass(frozen=True)
class Frame:
    """Where a crop lies in its image."""

    box: tuple[int, int, int, int]  # x, y of its first pixel and of the one after its last
    size: tuple[int, int]  # height, width of the image

    @property
    def pixels(self) -> int:
        """Count the pixels of the crop."""
        return max(0, self.box[2] - self.box[0]) * max(0, self.box[3] - self.box[1])


View = tuple[UInt8[np.ndarray, "_H _W 3"], Frame]  # an image, and what to cut out of it


@runtime_checkable
class PointPredictor(Protocol):
    """What the generator asks of a model that turns points into masks; any crop and answer that it
    can read itself.
    """

    mask_threshold: float  # on the logits
    point_numbers: int  # that drawing the masks of one point goes through, for the memory bound

    def encode_crops(self, views: Iterable[View], at_once: int) -> Iterator[Any]:
        """Do for each view, once, all that the points in it have in common; `at_once` of them
        together.
        """

    def answer_points(self, crop: Any, points: Float64[np.ndarray, "Q 2"]) -> Any:
        """Predict the IoU of three masks for each point (x, y in pixels of the crop), as
        `answer.iou`, (Q, 3).
        """

    def draw_masks(
        self, crop: Any, answer: Any, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Compute the logits of the wanted masks, point by point, at the model's own resolution."""

    def enlarge_masks(self, crop: Any, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Bring logits to the size of the crop."""


@dataclass(frozen=True)
class Crop:
    """An encoded crop."""

    prepared: PreparedCrop
    size: tuple[int, int]  # height, width in the image
    input_size: tuple[
        int, int
    ]  # height, width in the square that SAM sees, the rest of it being padding
    rows: Resize  # from SAM's masks to the crop
    columns: Resize

    @property
    def cells(self) -> tuple[int, int]:
        """Count the cells of SAM's grid, down and right, that masks of the crop are drawn on; the
        rest is padding.
        """
        return -(-self.rows.source // 4), -(-self.columns.source // 4)


class SamPoints(nn.Module):
    """Let a `segment_anything` SAM of any input size answer points; `encoder` says how its image
    encoder runs.
    """

    def __init__(self, sam: Sam, encoder: EncoderWrapper) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = encoder(sam.image_encoder)
        self.decoder = PointDecoder(sam.mask_decoder)
        self.mask_threshold = sam.mask_threshold
        grid, width = sam.prompt_encoder.image_embedding_size, sam.mask_decoder.transformer_dim
        self.point_numbers = grid[0] * grid[1] * 16 * width // 8

    def encode_crops(self, views: Iterable[View], at_once: int) -> Iterator[Crop]:
        """Resize views to SAM's input as SAM does, and run the image encoder."""
        _, no_mask = self.sam.prompt_encoder(points=None, boxes=None, masks=None)
        positions = self.sam.prompt_encoder.get_dense_pe()[0]
        remaining = iter(views)
        while some := list(islice(remaining, at_once)):
            inputs = [self._prepare_input(image, frame) for image, frame in some]
            features = self.encoder(torch.stack([pixels for pixels, _ in inputs])) + no_mask
            for (_, frame), (_, input_size), image in zip(some, inputs, features, strict=True):
                yield self._prepare_crop(image, positions, frame, input_size)

    def answer_points(self, crop: Crop, points: Float64[np.ndarray, "Q 2"]) -> Decoded:
        """Run SAM's prompt encoder and the transformer of its decoder."""
        (height, width), (input_height, input_width) = crop.size, crop.input_size
        scaled = torch.from_numpy(points * [input_width / width, input_height / height])
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=self.sam.device)
        coordinates = scaled.to(self.sam.device)[:, None]
        prompts, _ = self.sam.prompt_encoder(points=(coordinates, labels), boxes=None, masks=None)
        return self.decoder.decode(crop.prepared, prompts)

    def draw_masks(
        self, crop: Crop, answer: Decoded, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Run the rest of SAM's decoder for the points with a wanted mask, where the crop is."""
        return self.decoder.draw(crop.prepared, answer, wanted.to(self.sam.device), crop.cells)

    def enlarge_masks(self, crop: Crop, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Resize as if to SAM's input, without the padding, and from there to the crop."""
        return crop.rows.apply(crop.columns.apply(logits.mT).mT)

    def _prepare_input(
        self, image: UInt8[np.ndarray, "H W 3"], frame: Frame
    ) -> tuple[Float32[Tensor, "3 S S"], tuple[int, int]]:
        left, top, right, bottom = frame.box
        pixels = image[top:bottom, left:right]
        sides = ResizeLongestSide.get_preprocess_shape(
            *pixels.shape[:2], self.sam.image_encoder.img_size
        )
        input_size = (max(1, sides[0]), max(1, sides[1]))
        resized = Image.fromarray(pixels).resize(input_size[::-1], Image.Resampling.BILINEAR)
        return self.sam.preprocess(
            torch.from_numpy(np.array(resized)).to(self.sam.device).permute(2, 0, 1)
        ), input_size

    def _prepare_crop(
        self,
        image: Float[Tensor, "D h w"],
        positions: Float[Tensor, "D h w"],
        frame: Frame,
        input_size: tuple[int, int],
    ) -> Crop:
        left, top, right, bottom = frame.box
        size, side = (bottom - top, right - left), self.sam.image_encoder.img_size
        rows, columns = (
            join_resizes(4 * cells, side, seen, length).to(image.device)
            for cells, seen, length in zip(image.shape[1:], input_size, size, strict=True)
        )
        return Crop(self.decoder.prepare(image, positions), size, input_size, rows, columns)
