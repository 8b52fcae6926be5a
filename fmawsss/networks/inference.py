"""From a network to masks: whole images at one or several scales, or windows of large images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from fmawsss.affinity import strip_partial
from fmawsss.networks.refinement import Refine, keep_maps
from fmawsss.resizing import Picture, Size

Originals: TypeAlias = Sequence[Picture] | None


@dataclass(frozen=True)
class Answer:
    """What a network answers to one image.

    mask: 0 for the background, else class index + 1. confidence: probability of a pixel's class.
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
        """Predict the masks of a batch at `sizes`.

        Of large images that are not refined, the probabilities of some rows are held at a time.
        """
        if strip_partial(self.refine) is not keep_maps:
            estimates = self.estimate(network, images, sizes, originals)
            return [choose_classes(probabilities) for probabilities in estimates]
        views = self.look(network, images)
        return [
            choose_by_rows([view[index : index + 1] for view in views], size)
            for index, size in enumerate(sizes)
        ]

    def look(self, network: nn.Module, images: Float[Tensor, "B 3 h w"]) -> list[Tensor]:
        """Give the logits of all images, view by view."""
        mirrored = (False, True) if self.mirror else (False,)
        return [
            compute_scaled_logits(network, images, scale, flipped)
            for scale in self.scales
            for flipped in mirrored
        ]

    def estimate(
        self,
        network: nn.Module,
        images: Float[Tensor, "B 3 h w"],
        sizes: Sequence[Size],
        originals: Originals,
    ) -> Iterator[Float[Tensor, "R _ _"]]:
        """Give the probabilities of one image after the other, each at its size."""
        # All images at once, then one at its own size after the other
        views = self.look(network, images)
        for index, size in enumerate(sizes):
            mean = average_views([view[index : index + 1] for view in views], size)
            original = None if originals is None else torch.from_numpy(originals[index])
            yield self.refine(mean, original)


@dataclass(frozen=True)
class SlidingWindows:
    """Cut images into overlapping windows, and average their probabilities where they overlap.

    Windows count less towards their edges, where they see little around. Only the rows that windows
    still reach are held for all classes: beyond the image and its mask the memory is that of
    `window` rows, however high the image. Images come at their own size
    (`fmawsss.resizing.KeepSize`).

    whole: how a window is seen.
    window, stride: side of a window and the way to the next one, in pixels.
    batch: windows at once.
    """

    whole: WholeImages
    window: int
    stride: int
    batch: int

    @classmethod
    def over(
        cls,
        scales: Sequence[float],
        mirror: bool,
        refine: Refine,
        window: int,
        stride: int,
        batch: int,
    ) -> SlidingWindows:
        """See each window as a whole image at these scales, mirrored as well or not, refined."""
        return cls(WholeImages(scales, mirror, refine), window, stride, batch)

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
        original: Picture | None,
    ) -> Answer:
        """Predict the mask of one image, one row of windows after the other."""
        height, width = check_size(image, size)
        tops = place_windows(height, self.window, self.stride)
        lefts = place_windows(width, self.window, self.stride)
        mask, confidence = image.new_empty(size, dtype=torch.uint8), image.new_empty(size)
        weight = weigh_window((min(self.window, height), min(self.window, width)), image)
        sums, weights = image.new_zeros(()), image.new_zeros(len(weight), width)
        for top, following in zip(tops, [*tops[1:], height], strict=True):
            # Add what the windows of this row say; the first one says how many classes there are
            for left, part in self._look(network, image, original, top, lefts):
                if not sums.ndim:
                    sums = part.new_zeros(len(part), *weights.shape)
                sums[:, :, left : left + part.shape[-1]] += part * weight
                weights[:, left : left + part.shape[-1]] += weight

            # Rows that no later window reaches are done
            done = following - top
            answer = choose_classes(sums[:, :done] / weights[:done])
            mask[top:following], confidence[top:following] = answer.mask, answer.confidence
            shift_up(sums, done)
            shift_up(weights, done)
        return Answer(mask, confidence)

    def _look(
        self,
        network: nn.Module,
        image: Float[Tensor, "3 H W"],
        original: Picture | None,
        top: int,
        lefts: Sequence[int],
    ) -> Iterator[tuple[int, Float[Tensor, "R h w"]]]:
        """Give the left edges and the probabilities of windows side by side, in batches."""
        for first in range(0, len(lefts), self.batch):
            # Cut the windows of a batch
            group = lefts[first : first + self.batch]
            rows = slice(top, top + self.window)
            places = [(rows, slice(left, left + self.window)) for left in group]
            windows = torch.stack([image[:, rows, columns] for rows, columns in places])
            cut = None if original is None else [original[place] for place in places]

            # See each as if it were an image
            sizes = [(windows.shape[-2], windows.shape[-1])] * len(group)
            yield from zip(group, self.whole.estimate(network, windows, sizes, cut), strict=True)


HELD_NUMBERS = 1 << 27  # probabilities of an image that are held at once: 512 MB

SINGLE_SCALE = WholeImages(scales=(1.0,), mirror=False, refine=keep_maps)


def compute_scaled_logits(
    network: nn.Module, images: Float[Tensor, "B 3 h w"], scale: float, mirrored: bool
) -> Float[Tensor, "B R _ _"]:
    """Let the network see images at a scale, mirrored or not; its logits are turned back."""
    if scale != 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        images = F.interpolate(
            images, size=size, mode="bilinear", align_corners=False, antialias=True
        )
    return network(images.flip(-1)).flip(-1) if mirrored else network(images)


def compute_probabilities(logits: Float[Tensor, "1 R h w"], size: Size) -> Float[Tensor, "R H W"]:
    """Resize logits bilinearly, then turn them into probabilities."""
    resized = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].softmax(dim=0)


def average_views(views: Sequence[Float[Tensor, "1 R _ _"]], size: Size) -> Float[Tensor, "R H W"]:
    """Average the probabilities of several views of an image."""
    total = compute_probabilities(views[0], size)
    for view in views[1:]:
        total += compute_probabilities(view, size)
    return total / len(views)


def choose_by_rows(views: Sequence[Float[Tensor, "1 R _ _"]], size: Size) -> Answer:
    """Choose the classes of an image as a whole, or of some rows after the other if it is large."""
    rows = max(HELD_NUMBERS // (views[0].shape[1] * size[1]), 1)
    if rows >= size[0]:
        return choose_classes(average_views(views, size))
    answers = []
    for places in torch.arange(size[0], device=views[0].device).split(rows):
        cut = [resize_rows(view, places, size[0]) for view in views]
        answers.append(choose_classes(average_views(cut, (len(places), size[1]))))
    masks, confidences = zip(*((answer.mask, answer.confidence) for answer in answers), strict=True)
    return Answer(torch.cat(masks), torch.cat(confidences))


def resize_rows(
    logits: Float[Tensor, "1 R h w"], places: Int64[Tensor, "H"], height: int
) -> Float[Tensor, "1 R H w"]:
    """Return some of the `height` rows that bilinear resizing gives."""
    source = ((places + 0.5) * (logits.shape[2] / height) - 0.5).clamp_min(0)
    above = source.long()
    below = (above + 1).clamp_max(logits.shape[2] - 1)
    return logits[:, :, above].float().lerp(logits[:, :, below].float(), (source - above)[:, None])


def choose_classes(probabilities: Float[Tensor, "R H W"]) -> Answer:
    """Take the most probable class of each pixel."""
    confidence, mask = probabilities.max(dim=0)
    return Answer(mask.to(torch.uint8), confidence)


def place_windows(side: int, window: int, stride: int) -> list[int]:
    """Place windows `stride` apart along a side, the last one at its end.

    >>> place_windows(10, 4, 3), place_windows(11, 4, 3), place_windows(3, 4, 3)
    ([0, 3, 6], [0, 3, 6, 7], [0])
    """
    if not 0 < stride <= window:
        raise ValueError(
            f"stride is {stride}, expected 1 to window={window}: "
            "pixels between windows would stay empty"
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
            f"{tuple(image.shape[-2:])}: use `python infer.py task=network inference=sliding`, "
            "or Segmenter.from_checkpoint(…, resize=KeepSize())"
        )
    return size
