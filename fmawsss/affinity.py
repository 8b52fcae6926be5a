"""CAA: CAMs spread over the patches that attend to each other (METHOD 5, after CLIP-ES)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fmawsss.precision import widen
from fmawsss.scores import score_cams

BoxMask: TypeAlias = Callable[[Tensor, float], Tensor]
GatherRule: TypeAlias = Callable[[Tensor], Tensor]


def find_sinkhorn_scales(
    attention: Float[Tensor, "*batch N N"], iterations: int
) -> tuple[Float[Tensor, "*batch N"], Float[Tensor, "*batch N"]]:
    """Find the factors of rows and columns that normalise the attention by sinkhorn.

    `rows * attention * columns` is the attention after `iterations` divisions by column and row
    sums. A patch that nobody attends to (padding) gets factor 0.
    """
    rows = columns = attention.new_ones(attention.shape[:-1])
    for _ in range(iterations):
        columns = _invert((rows[..., None, :] @ attention)[..., 0, :])  # columns sum to one
        rows = _invert((columns[..., None, :] @ attention.mT)[..., 0, :])  # rows sum to one
    return rows, columns


def normalise_sinkhorn(
    attention: Float[Tensor, "*batch N N"], iterations: int
) -> Float[Tensor, "*batch N N"]:
    """Divide by column sums, then by row sums, `iterations` times."""
    rows, columns = find_sinkhorn_scales(attention, iterations)
    return rows[..., :, None] * attention * columns[..., None, :]


def compute_affinity(
    attention: Float[Tensor, "*batch N N"], iterations: int
) -> Float[Tensor, "*batch N N"]:
    """Write out the affinity `A = (T + T') / 2` of the normalised attention, to look at it."""
    normalised = normalise_sinkhorn(widen(attention), iterations)
    return (normalised + normalised.mT) / 2


def apply_affinity(
    values: Float[Tensor, "K N"], attention: Float[Tensor, "N N"], iterations: int, power: int
) -> Float[Tensor, "K N"]:
    """Multiply each row by the affinity `power` times, without ever forming the affinity.

    Autocast is off: a validation in mixed precision refines as an inference does.
    """
    with torch.autocast(values.device.type, enabled=False):
        rows, columns = find_sinkhorn_scales(attention, iterations)
        for _ in range(power):
            forth = (values * columns) @ attention.mT * rows
            back = (values * rows) @ attention * columns
            values = (forth + back) / 2
    return values


def find_boxes(score: Float[Tensor, "h w"], threshold: float) -> Int64[Tensor, "n 4"]:
    """Find the box around every contour of the score, as the released code does (METHOD 9).

    A box is x0, y0, x1, y1, ends exclusive. The score in 0…255 and its threshold are truncated;
    holes have boxes of their own; ends are clipped to w-1 and h-1, so that the last column and row
    lie in no box. A score without a contour gives one empty box.
    """
    return torch.from_numpy(_find_boxes(_read_grey(score), threshold))


def find_largest_box(score: Float[Tensor, "h w"], threshold: float) -> Int64[Tensor, "n 4"]:
    """Find the box of the contour that encloses the largest area, otherwise as `find_boxes`."""
    return torch.from_numpy(_find_largest_box(_read_grey(score), threshold))


def mask_boxes_released(scores: Float[Tensor, "P h w"], threshold: float) -> Bool[Tensor, "P N"]:
    """Mark the patches inside the boxes of `find_boxes`; the last row and column never are."""
    return _fill_boxes(scores, [_find_boxes(grey, threshold) for grey in _read_grey(scores)])


def mask_largest_box(scores: Float[Tensor, "P h w"], threshold: float) -> Bool[Tensor, "P N"]:
    """Mark the patches inside the box of `find_largest_box`."""
    return _fill_boxes(scores, [_find_largest_box(grey, threshold) for grey in _read_grey(scores)])


def mask_boxes_corrected(scores: Float[Tensor, "P h w"], threshold: float) -> Bool[Tensor, "P N"]:
    """Mark the patches inside the box of each connected region above `threshold * max`.

    Boxes reach to the last row and column.
    """
    above = scores > threshold * scores.amax((1, 2), keepdim=True)
    regions = above.numpy(force=True).astype(np.uint8)
    return _fill_boxes(scores, [_bound_regions(region) for region in regions])


def gather_inside(boxes: Bool[Tensor, "P N"]) -> Bool[Tensor, "P N"]:
    """Let patches gather from those inside the boxes (published)."""
    return boxes


def gather_outside(boxes: Bool[Tensor, "P N"]) -> Bool[Tensor, "P N"]:
    """Let patches gather from those outside the boxes."""
    return ~boxes


def gather_all(boxes: Bool[Tensor, "P N"]) -> Bool[Tensor, "P N"]:
    """Let patches gather from everywhere."""
    return torch.ones_like(boxes)


def strip_partial(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function itself where a partial fixes none of its arguments."""
    while isinstance(function, partial) and not function.args and not function.keywords:
        function = function.func
    return function


@runtime_checkable
class Affinity(Protocol):
    """Spread the CAMs of one image over what looks alike.

    `attention_blocks` of CLIP are averaged for it, 0 for none. One that is an `nn.Module` moves to
    the device, stays frozen, and counts in fingerprints with its weights.
    """

    attention_blocks: int

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        attention: Float[Tensor, "N N"] | None,
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> Float[Tensor, "P h w"]:
        """Refine the CAMs of an image, which lies where the CAMs do."""


@dataclass(frozen=True)
class AffinityRefiner:
    """Refine CAMs by `CAM'[i] = sum over j of (A ** power)[i, j] M[i, j] x[j]`."""

    attention_blocks: int  # the encoder averages the attention of this many last blocks
    iterations: int  # of sinkhorn
    threshold: float  # of the boxes, as a part of the maximal score
    power: int  # 0 leaves the values as they are
    values: Callable[[Tensor], Tensor]  # x: `scores.score_cams` or `scores.keep_cams`
    mask_boxes: BoxMask
    inside_from: GatherRule  # where the patches inside the boxes may gather from
    outside_from: GatherRule  # where those outside may

    def __post_init__(self) -> None:
        # Hydra's partials check their target at every call, which takes as long as a refinement
        for name in ("values", "mask_boxes", "inside_from", "outside_from"):
            object.__setattr__(self, name, strip_partial(getattr(self, name)))

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        attention: Float[Tensor, "N N"] | None,
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> Float[Tensor, "P h w"]:
        """Refine the CAMs of one image.

        Raises:
            ValueError: without the attention of its own patch grid.
        """
        attention = check_attention(cams, attention)
        return self.spread(cams, self.mask_boxes(score_cams(cams), self.threshold), attention)

    def spread(
        self,
        cams: Float[Tensor, "P h w"],
        boxes: Bool[Tensor, "P N"],
        attention: Float[Tensor, "N N"],
    ) -> Float[Tensor, "P h w"]:
        """Refine the CAMs of one image whose boxes are known; `torch.vmap` does so for many."""
        values = self.values(cams)
        if self.power == 0:
            return values  # the identity gathers from nobody, so the boxes do not act

        # M masks columns of the affinity, in one way for the rows inside the boxes, in another for
        # those outside; where the two ways are the same (published), one is enough
        ways = [self.inside_from(boxes), self.outside_from(boxes)]
        sources = torch.stack(ways[:1] if ways[0] is ways[1] else ways)
        dtype = torch.promote_types(widen(values).dtype, attention.dtype)
        sources = sources * values.flatten(1).to(dtype)

        # A^t (M ∘ x)
        flat = sources.flatten(0, 1)
        gathered = apply_affinity(flat, attention.to(dtype), self.iterations, self.power)
        gathered = gathered.view_as(sources)
        return torch.where(boxes, gathered[0], gathered[-1]).view_as(cams)


@dataclass(frozen=True)
class NoRefinement:
    """Leave CAMs as they are; asks the encoder for no attention."""

    attention_blocks: ClassVar[int] = 0

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        attention: Float[Tensor, "N N"] | None,
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> Float[Tensor, "P h w"]:
        """Return the CAMs; the attention may be missing."""
        return cams


def check_attention(cams: Float[Tensor, "P h w"], attention: Tensor | None) -> Tensor:
    """Return the attention; raise ValueError unless it is there and fits the CAMs' patch grid."""
    height, width = cams.shape[1:]
    if attention is None:
        raise ValueError(
            "Affinity refinement needs attention, found none. Encode the image with "
            "attention_blocks > 0, store it beside the CAMs, or choose affinity=none."
        )
    if len(attention) != height * width:
        raise ValueError(
            f"Attention between {len(attention)} patches does not fit CAMs on a {height} x {width} "
            f"grid: expected {height * width} patches, without the class token."
        )
    return attention


def _invert(sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.where(sums > 0, 1 / sums, 0)


def _read_grey(scores: Float[Tensor, "*P h w"]) -> UInt8[np.ndarray, "*P h w"]:
    """Read scores in 0…1 as grey values, all in one transfer."""
    return (scores * 255).to(torch.uint8).numpy(force=True)


def _find_boxes(grey: UInt8[np.ndarray, "h w"], threshold: float) -> np.ndarray:
    return _bound_contours(_trace_contours(grey, threshold), grey.shape)


def _find_largest_box(grey: UInt8[np.ndarray, "h w"], threshold: float) -> np.ndarray:
    contours = sorted(_trace_contours(grey, threshold), key=cv2.contourArea, reverse=True)
    return _bound_contours(contours[:1], grey.shape)


def _trace_contours(grey: UInt8[np.ndarray, "h w"], threshold: float) -> Sequence[np.ndarray]:
    """Trace all contours, inner ones too, above `int(threshold * max)`."""
    bright = (grey > int(threshold * int(grey.max()))).astype(np.uint8)
    contours, _ = cv2.findContours(bright, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    return contours


def _bound_contours(contours: Sequence[np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    if not contours:
        return np.zeros((1, 4), dtype=np.int64)
    left, top, width, height = np.array(
        [cv2.boundingRect(contour) for contour in contours], dtype=np.int64
    ).T
    right, bottom = np.minimum(left + width, size[1] - 1), np.minimum(top + height, size[0] - 1)
    return np.stack([left, top, right, bottom], axis=1)


def _bound_regions(region: UInt8[np.ndarray, "h w"]) -> np.ndarray:
    """Bound each 8-connected region, whole."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
    left, top, width, height = statistics[1:, :4].astype(np.int64).T
    return np.stack([left, top, left + width, top + height], axis=1)


def _fill_boxes(scores: Float[Tensor, "P h w"], boxes: list[np.ndarray]) -> Bool[Tensor, "P N"]:
    """Fill each class's boxes on its grid."""
    mask = np.zeros(scores.shape, dtype=bool)
    for inside, found in zip(mask, boxes, strict=True):
        for left, top, right, bottom in found.tolist():
            inside[top:bottom, left:right] = True
    return torch.from_numpy(mask).flatten(1).to(scores.device)
