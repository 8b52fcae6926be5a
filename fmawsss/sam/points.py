"""SAM asked with single points: three masks per point, one per level, plainly and sooner.

`PlainSamPoints` calls SAM's own decoder. `SamPoints` gives the same numbers, up to rounding, in the
order that saves work: what all points of a crop share is computed once, and masks are drawn only
where the predicted IoU, which needs no pixels, lets them pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

from fmawsss.resizing import resize_by
from fmawsss.sam.decoder import Decoded, PointDecoder, PreparedCrop
from fmawsss.sam.encoder import EncoderWrapper
from fmawsss.sam.mask_resize import AxisResize, join_resizes


@dataclass(frozen=True)
class Frame:
    """Where a crop lies in its image."""

    box: tuple[int, int, int, int]  # x, y of its first pixel and of the one after its last
    size: tuple[int, int]  # height, width of the image

    @property
    def pixels(self) -> int:
        """Count the pixels of the crop."""
        return max(0, self.box[2] - self.box[0]) * max(0, self.box[3] - self.box[1])


FramedImage = tuple[UInt8[np.ndarray, "_H _W 3"], Frame]  # an image, and what to cut out of it


@runtime_checkable
class PointPredictor(Protocol):
    """A model that turns points into masks, as the generator asks it.

    Crops and answers are of any kind that the model reads itself.
    """

    mask_threshold: float  # on the logits
    point_numbers: int  # numbers in memory while the masks of one point are drawn

    def encode_crops(self, views: Iterable[FramedImage], at_once: int) -> Iterator[Any]:
        """Do, once per view, what its points have in common; `at_once` views together."""

    def answer_points(self, crop: Any, points: Float64[np.ndarray, "Q 2"]) -> Any:
        """Answer points (x, y in pixels of the crop) with the predicted IoU of three masks each.

        `answer.iou`, (Q, 3), is all that the generator reads of it.
        """

    def draw_masks(
        self, crop: Any, answer: Any, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Compute the logits of the wanted masks, point by point, at the model's own resolution."""

    def enlarge_masks(self, crop: Any, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Bring logits to the size of the crop."""


@runtime_checkable
class CropsPredictor(Protocol):
    """A model that answers the points of several crops at once."""

    def answer_crops(
        self, crops: Sequence[Any], points: Float64[np.ndarray, "G Q 2"]
    ) -> Sequence[Any]:
        """Answer points of several crops, equally many of each."""


def answer_crops(
    predictor: PointPredictor, crops: Sequence[Any], points: Float64[np.ndarray, "G Q 2"]
) -> Sequence[Any]:
    """Answer points of several crops, at once where the model can, else crop by crop."""
    if isinstance(predictor, CropsPredictor):
        return predictor.answer_crops(crops, points)
    return [predictor.answer_points(*pair) for pair in zip(crops, points, strict=True)]


@dataclass(frozen=True)
class PlainCrop:
    """A crop, encoded by SAM."""

    features: Float[Tensor, "1 D h w"]
    size: tuple[int, int]  # height, width in the image
    input_size: tuple[int, int]  # the same in the square that SAM sees; the rest is padding


@dataclass(frozen=True)
class DrawnAnswer:
    """What a model says about Q points, all masks drawn."""

    iou: Float[Tensor, "Q 3"]
    logits: Float[Tensor, "Q 3 h w"]


class PlainSamPoints(nn.Module):
    """Let a `segment_anything` SAM answer points by its own decoder, all masks of a batch at once.

    `encoder` says how its image encoder runs.
    """

    def __init__(self, sam: Sam, encoder: EncoderWrapper) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = encoder(sam.image_encoder)
        self.mask_threshold = sam.mask_threshold
        self.point_numbers = 1  # the answer holds the masks already

    def encode_crops(self, views: Iterable[FramedImage], at_once: int) -> Iterator[PlainCrop]:
        """Resize views to SAM's input as SAM does, and run the image encoder."""
        remaining = iter(views)
        while some := list(islice(remaining, at_once)):
            crops = [cut_crop(view) for view in some]
            inputs = [prepare_input(self.sam, pixels) for pixels in crops]
            features = self.encoder(torch.stack([square for square, _ in inputs]))
            for image, pixels, (_, input_size) in zip(features, crops, inputs, strict=True):
                yield PlainCrop(image[None], pixels.shape[:2], input_size)

    def answer_points(self, crop: PlainCrop, points: Float64[np.ndarray, "Q 2"]) -> DrawnAnswer:
        """Run SAM's prompt encoder and its mask decoder."""
        prompts, no_mask = embed_points(self.sam, crop.size, crop.input_size, points)
        logits, iou = self.sam.mask_decoder(
            image_embeddings=crop.features,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=no_mask,
            multimask_output=True,
        )
        return DrawnAnswer(iou, logits)

    def draw_masks(
        self, crop: PlainCrop, answer: DrawnAnswer, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Pick the wanted masks."""
        return answer.logits[wanted.to(answer.logits.device)]

    def enlarge_masks(
        self, crop: PlainCrop, logits: Float[Tensor, "M h w"]
    ) -> Float[Tensor, "M H W"]:
        """Resize to SAM's input, cut off its padding, resize to the crop."""
        return self.sam.postprocess_masks(logits[:, None], crop.input_size, crop.size)[:, 0]


@dataclass(frozen=True)
class Crop:
    """An encoded crop, with all that its points share."""

    prepared: PreparedCrop
    size: tuple[int, int]  # height, width in the image
    input_size: tuple[int, int]  # the same in the square that SAM sees; the rest is padding
    rows: AxisResize  # from SAM's masks to the crop
    columns: AxisResize

    @property
    def cells(self) -> tuple[int, int]:
        """Count the cells of SAM's grid, down and right, that are not padding."""
        return -(-self.rows.source // 4), -(-self.columns.source // 4)


class SamPoints(nn.Module):
    """Let a `segment_anything` SAM answer points as `PlainSamPoints` does, sooner.

    `encoder` says how its image encoder runs.
    """

    def __init__(self, sam: Sam, encoder: EncoderWrapper) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = encoder(sam.image_encoder)
        self.decoder = PointDecoder(sam.mask_decoder)
        self.mask_threshold = sam.mask_threshold
        grid, width = sam.prompt_encoder.image_embedding_size, sam.mask_decoder.transformer_dim
        self.point_numbers = grid[0] * grid[1] * 16 * width // 8

    def encode_crops(self, views: Iterable[FramedImage], at_once: int) -> Iterator[Crop]:
        """Resize views to SAM's input as SAM does, and run the image encoder."""
        _, no_mask = self.sam.prompt_encoder(points=None, boxes=None, masks=None)
        positions = self.sam.prompt_encoder.get_dense_pe()[0]
        remaining = iter(views)
        while some := list(islice(remaining, at_once)):
            crops = [cut_crop(view) for view in some]
            inputs = [prepare_input(self.sam, pixels) for pixels in crops]
            features = self.encoder(torch.stack([square for square, _ in inputs])) + no_mask
            for image, pixels, (_, input_size) in zip(features, crops, inputs, strict=True):
                yield self._prepare_crop(image, positions, pixels.shape[:2], input_size)

    def answer_points(self, crop: Crop, points: Float64[np.ndarray, "Q 2"]) -> Decoded:
        """Run SAM's prompt encoder and the transformer of its decoder."""
        return self.answer_crops([crop], points[None])[0]

    def answer_crops(
        self, crops: Sequence[Crop], points: Float64[np.ndarray, "G Q 2"]
    ) -> list[Decoded]:
        """Run the decoder once for the points of all crops."""
        places = [
            scale_points(own, crop.size, crop.input_size)
            for crop, own in zip(crops, points, strict=True)
        ]
        prompts = embed_tokens(self.sam, np.concatenate(places))
        decoded = self.decoder.decode([crop.prepared for crop in crops], prompts)
        return decoded.split(len(crops))

    def draw_masks(
        self, crop: Crop, answer: Decoded, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Run the rest of SAM's decoder for the points with a wanted mask, where the crop is."""
        return self.decoder.draw(crop.prepared, answer, wanted, crop.cells)

    def enlarge_masks(self, crop: Crop, logits: Float[Tensor, "M h w"]) -> Float[Tensor, "M H W"]:
        """Resize as if to SAM's input, without the padding, and from there to the crop."""
        return crop.rows.apply(crop.columns.apply(logits.mT).mT)

    def _prepare_crop(
        self,
        image: Float[Tensor, "D h w"],
        positions: Float[Tensor, "D h w"],
        size: tuple[int, int],
        input_size: tuple[int, int],
    ) -> Crop:
        side = self.sam.image_encoder.img_size
        rows, columns = (
            join_resizes(4 * cells, side, seen, length, image.device)
            for cells, seen, length in zip(image.shape[1:], input_size, size, strict=True)
        )
        return Crop(self.decoder.prepare(image, positions), size, input_size, rows, columns)


def cut_crop(view: FramedImage) -> UInt8[np.ndarray, "H W 3"]:
    """Cut the pixels of a frame out of its image."""
    image, frame = view
    left, top, right, bottom = frame.box
    return image[top:bottom, left:right]


def prepare_input(
    sam: Sam, pixels: UInt8[np.ndarray, "H W 3"]
) -> tuple[Float32[Tensor, "3 S S"], tuple[int, int]]:
    """Resize, normalise and pad a crop as SAM does; return its height and width before padding."""
    side = sam.image_encoder.img_size
    height, width = ResizeLongestSide.get_preprocess_shape(*pixels.shape[:2], side)
    input_size = (max(1, height), max(1, width))
    resized = resize_by(pixels, input_size, Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(resized).to(sam.device).permute(2, 0, 1)
    return sam.preprocess(tensor), input_size


def embed_points(
    sam: Sam, size: tuple[int, int], input_size: tuple[int, int], points: Float64[np.ndarray, "Q 2"]
) -> tuple[Float[Tensor, "Q K D"], Float[Tensor, "Q D h w"]]:
    """Turn points of a crop into SAM's prompts: their tokens, and the image of a missing mask."""
    scaled = torch.from_numpy(scale_points(points, size, input_size))
    coordinates = scaled.to(sam.device)[:, None]
    labels = torch.ones(len(points), 1, dtype=torch.int32, device=sam.device)
    return sam.prompt_encoder(points=(coordinates, labels), boxes=None, masks=None)


def embed_tokens(sam: Sam, places: Float64[np.ndarray, "Q 2"]) -> Float[Tensor, "Q 2 D"]:
    """Make the tokens of `embed_points` of points in SAM's input; no device is waited for.

    SAM chooses by labels what it adds to each position. Here all are known: the point itself, and
    what SAM puts in the place of a box.
    """
    encoder = sam.prompt_encoder
    points = torch.from_numpy(places).to(sam.device, non_blocking=True)[:, None] + 0.5
    padded = torch.cat([points, points.new_zeros(len(points), 1, 2)], 1)
    positions = encoder.pe_layer.forward_with_coords(padded, encoder.input_image_size)
    point = positions[:, 0] + encoder.point_embeddings[1].weight
    return torch.stack([point, encoder.not_a_point_embed.weight.expand_as(point)], 1)


def scale_points(
    points: Float64[np.ndarray, "Q 2"], size: tuple[int, int], input_size: tuple[int, int]
) -> Float64[np.ndarray, "Q 2"]:
    """Bring points of a crop to its place in SAM's input."""
    (height, width), (input_height, input_width) = size, input_size
    return points * [input_width / width, input_height / height]
