"""From a network to masks: whole images at one or several scales, and windows of images of any
size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fmawsss.networks.refinement import Refine, keep_scores

Size: TypeAlias = tuple[int, int]  # height, width
Originals: TypeAlias = Sequence[UInt8[np.ndarray, "_ _ 3"]] | None


@dataclass(frozen=True)
class Answer:
    """The mask of one image (0 background, else class index + 1), and the probability of each
    pixel's class.
    """

    mask: UInt8[Tensor, "H W"]
    confidence: Float[Tensor, "H W"]


# (network, images as it wants to see them, sizes of the masks, images of those sizes for a
# refinement) -> answers
Inference: TypeAlias = Callable[[nn.Module, Tensor, Sequence[Size], Originals], list[Answer]]


@dataclass(frozen=True)
class WholeImages:
    """Average the probabilities of several views of the whole image, then refine them.

    scales: of the views, 1 is the size that the network wants to see.
    mirror: whether each view is also seen mirrored.
    """

    scales: Sequence[float]
    mirror: bool
    refine: Refine

    def __call__(
        self,
        network: nn.Module,
        images: Float[Tensor, "B 3 h w"],
        sizes: Sequence[Size],
        originals: Originals = None,
    ) -> list[Answer]:
        """Predict the masks of a batch at `sizes`."""
        return [
            choose_classes(scores) for scores in self.estimate(network, images, sizes, originals)
        ]

    def estimate(
        self,
        network: nn.Module,
        images: Float[Tensor, "B 3 h w"],
        sizes: Sequence[Size],
        originals: Originals,
    ) -> Iterator[Float[Tensor, "R _ _"]]:
        """Give the probabilities of one image after the other, each at its size."""
        views = [
            view_scores(network, images, scale, mirrored)
            for scale in self.scales
            for mirrored in self._mirrored
        ]
        for index, size in enumerate(sizes):
            scores = resize_scores(views[0][index : index + 1], size)
            for view in views[1:]:
                scores += resize_scores(view[index : index + 1], size)
            original = None if originals is None else torch.from_numpy(originals[index])
            yield self.refine(scores / len(views), original)

    @property
    def _mirrored(self) -> tuple[bool, ...]:
        return (False, True) if self.mirror else (False,)


@dataclass(frozen=True)
class SlidingWindows:
    """Cut images into overlapping windows, and average their probabilities where they overlap.

    Windows count less towards their edges, where they see little around. Only the rows that windows
    still reach are held for all classes, so that beyond the image and its mask the memory is that
    of `window` rows, however high the image. Images come at their own size
    (`fmawsss.resizing.KeepSize`).

    whole: how a window is seen.
    window, stride: side of a window and the way to the next one, in pixels.
    batch: windows at once.
    """

    whole: WholeImages
    window: int
    stride: int
    batch: int

    def __call__(
        self,
        network: nn.Module,
        images: Float[Tensor, "B 3 H W"],
        sizes: Sequence[Size],
        originals: Originals = None,
    ) -> list[Answer]:
        """Predict the masks of a batch."""
        known = [None] * len(images) if originals is None else originals
        return [self._slide(network, *image) for image in zip(images, sizes, known, strict=True)]

    def _slide(
        self,
        network: nn.Module,
        image: Float[Tensor, "3 H W"],
        size: Size,
        original: np.ndarray | None,
    ) -> Answer:
        height, width = check_size(image, size)
        tops, lefts = (place_windows(side, self.window, self.stride) for side in (height, width))
        rows, columns = min(self.window, height), min(self.window, width)
        mask, confidence = image.new_empty(size, dtype=torch.uint8), image.new_empty(size)
        weight = weigh_window((rows, columns), image)
        scores, weights = image.new_zeros(()), image.new_zeros(rows, width)
        for top, following in zip(tops, [*tops[1:], height], strict=True):
            for first in range(0, len(lefts), self.batch):
                group = lefts[first : first + self.batch]
                for left, part in zip(
                    group, self._look(network, image, original, top, group), strict=True
                ):
                    if not scores.ndim:  # the first window says how many classes there are
                        scores = part.new_zeros(len(part), rows, width)
                    scores[:, :, left : left + columns] += part * weight
                    weights[:, left : left + columns] += weight

            # rows that no later window reaches are done
            done = following - top
            answer = choose_classes(scores[:, :done] / weights[:done])
            mask[top:following], confidence[top:following] = answer.mask, answer.confidence
            shift_up(scores, done)
            shift_up(weights, done)
        return Answer(mask, confidence)

    def _look(
        self,
        network: nn.Module,
        image: Tensor,
        original: np.ndarray | None,
        top: int,
        lefts: Sequence[int],
    ) -> Iterator[Float[Tensor, "R h w"]]:
        """Give the probabilities of windows side by side."""
        places = [
            (slice(top, top + self.window), slice(left, left + self.window)) for left in lefts
        ]
        windows = torch.stack([image[:, rows, columns] for rows, columns in places])
        cut = None if original is None else [original[place] for place in places]
        height, width = windows.shape[-2:]
        return self.whole.estimate(network, windows, [(height, width)] * len(lefts), cut)


SINGLE_SCALE = WholeImages(scales=(1.0,), mirror=False, refine=keep_scores)


def view_scores(
    network: nn.Module, images: Float[Tensor, "B 3 h w"], scale: float, mirrored: bool
) -> Float[Tensor, "B R _ _"]:
    """Let the network see images at a scale, mirrored or not; its scores are turned back."""
    if scale != 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        images = F.interpolate(
            images, size=size, mode="bilinear", align_corners=False, antialias=True
        )
    return network(images.flip(-1)).flip(-1) if mirrored else network(images)


def resize_scores(scores: Float[Tensor, "1 R h w"], size: Size) -> Float[Tensor, "R H W"]:
    """Resize scores bilinearly, then turn them into probabilities."""
    return F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)[
        0
    ].softmax(dim=0)


def choose_classes(scores: Float[Tensor, "R H W"]) -> Answer:
    """Take the most probable class of each pixel."""
    confidence, mask = scores.max(dim=0)
    return Answer(mask.to(torch.uint8), confidence)


def place_windows(side: int, window: int, stride: int) -> list[int]:
    """Place windows `stride` apart along a side, the last one at its end.

    >>> place_windows(10, 4, 3), place_windows(11, 4, 3), place_windows(3, 4, 3)
    ([0, 3, 6], [0, 3, 6, 7], [0])
    """
    if not 0 < stride <= window:
        raise ValueError(
            f"stride is {stride}, expected 1 to window={window}: pixels between windows would stay "
            "empty"
        )
    last = max(side - window, 0)
    return [*range(0, last, stride), last]


def weigh_window(size: Size, like: Tensor) -> Float[Tensor, "h w"]:
    """Weigh the pixels of a window by the distances to its edges, from 1 at the corners."""
    ramps = [torch.arange(1.0, side + 1, device=like.device) for side in size]
    vertical, horizontal = (ramp.minimum(ramp.flip(0)) for ramp in ramps)
    return vertical[:, None] * horizontal


def shift_up(values: Float[Tensor, "*R h w"], rows: int) -> None:
    """Move rows up in place and empty those that come free below."""
    values[..., : values.shape[-2] - rows, :] = values[..., rows:, :].clone()
    values[..., values.shape[-2] - rows :, :] = 0


def check_size(image: Float[Tensor, "3 H W"], size: Size) -> Size:
    """Return the size of an image; raises ValueError when it was resized."""
    if tuple(image.shape[-2:]) != tuple(size):
        raise ValueError(
            f"sliding windows need images at their own size {tuple(size)}, found "
            f"{tuple(image.shape[-2:])}: "
            "use `python infer.py task=network inference=sliding`, or Segmenter.from_checkpoint(…, "
            "resize=KeepSize())"
        )
    return size
