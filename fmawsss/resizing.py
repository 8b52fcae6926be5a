"""How a whole image becomes what a network sees: its size, then its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

Picture = UInt8[np.ndarray, "_ _ 3"]
Mask = UInt8[np.ndarray, "_ _"]
Size = tuple[int, int]  # height, width
LARGEST_SIDE = 100_000  # of an image that a network sees, in pixels


@runtime_checkable
class Resize(Protocol):
    """How a whole image becomes the network's input."""

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""

    def find_size(self, size: Size) -> Size:
        """Return the height and width that an image of a given size gets."""


@dataclass(frozen=True)
class AlignToPatch:
    """Round each side of an image up to a multiple of the patch size, for prediction."""

    patch: int

    def __post_init__(self) -> None:
        require_pixels(patch=self.patch)

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""
        return resize_image(image, self.find_size(image.shape[:2]))

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        return -(-size[0] // self.patch) * self.patch, -(-size[1] // self.patch) * self.patch


@dataclass(frozen=True)
class ShrinkToPatch:
    """Shrink large images, then round sides up to multiples of `patch`, for prediction.

    longest: the longer side of an image is at most so many pixels.

    >>> shrink = ShrinkToPatch(16, longest=1024)
    >>> shrink.find_size((3000, 4000)), shrink.find_size((375, 500))
    ((768, 1024), (384, 512))
    """

    patch: int
    longest: int

    def __post_init__(self) -> None:
        require_pixels(patch=self.patch, longest=self.longest)

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""
        return resize_image(image, self.find_size(image.shape[:2]))

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        return AlignToPatch(self.patch).find_size(fit_longest(size, self.longest))


@dataclass(frozen=True)
class ResizeSquare:
    """Squash an image to a square, for validation during training.

    side: of the square in pixels, rounded up to a multiple of `patch`.
    """

    side: int
    patch: int

    def __post_init__(self) -> None:
        require_pixels(side=self.side, patch=self.patch)

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""
        return resize_image(image, self.find_size(image.shape[:2]))

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        side = -(-self.side // self.patch) * self.patch
        return side, side


@dataclass(frozen=True)
class ShortSide:
    """Resize whole images to a short side, then round to multiples of `patch`, for prediction.

    longest: the other side is at most so many pixels, and the short one then shorter.
    """

    side: int
    longest: int
    patch: int

    def __post_init__(self) -> None:
        require_pixels(side=self.side, longest=self.longest, patch=self.patch)

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""
        return resize_image(image, self.find_size(image.shape[:2]))

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        height, width = (
            max(round(side / self.patch), 1) * self.patch
            for side in find_short_size(size, self.side, self.longest)
        )
        return height, width


class KeepSize:
    """Leave images as they are."""

    def __call__(self, image: Picture) -> Picture:
        """Return the image itself."""
        return image

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        return size


def require_pixels(**sides: int) -> None:
    """Raise ValueError for a side of a resize rule that is no size, naming it."""
    for name, side in sides.items():
        if not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f"resize.{name}={side}: expected 1 to {LARGEST_SIDE} pixels")


def fit_longest(size: Size, longest: int) -> Size:
    """Shrink a size so that its longer side is at most `longest`.

    >>> fit_longest((3000, 4000), 1024), fit_longest((375, 500), 1024)
    ((768, 1024), (375, 500))
    """
    ratio = min(longest / max(size), 1)
    height, width = (max(round(ratio * side), 1) for side in size)
    return height, width


def find_short_size(size: Size, side: int, longest: int) -> Size:
    """Scale a size to a shorter side of `side`, unless the longer one would exceed `longest`.

    >>> find_short_size((375, 500), 512, 2048), find_short_size((100, 1000), 512, 2048)
    ((512, 683), (205, 2048))
    """
    ratio = min(side / min(size), longest / max(size))
    return int(ratio * size[0] + 0.5), int(ratio * size[1] + 0.5)


def resize_image(image: Picture, size: Size) -> Picture:
    """Resize an image bicubically with antialiasing, as Pillow does."""
    if image.shape[:2] == size:
        return image
    return resize_by(image, size, Image.Resampling.BICUBIC)


def resize_by(image: Picture, size: Size, method: Image.Resampling) -> Picture:
    """Resize an image with a filter of Pillow: first its width, then its height.

    Both passes round to 8 bits. Pillow up to 12 takes them in this order, as the published runs
    did; 13 takes the height of tall images first, which changes values by up to 4.
    """
    wide = Image.fromarray(image).resize((size[1], image.shape[0]), method)
    return np.array(wide.resize((size[1], size[0]), method))


def find_nearest(source: int, side: int) -> Int64[np.ndarray, "side"]:
    """Find the row (or column) of `source` ones that is nearest to each of `side` ones.

    >>> find_nearest(2, 4).tolist(), find_nearest(4, 2).tolist()
    ([0, 0, 1, 1], [1, 3])
    """
    return (2 * np.arange(side) + 1) * source // (2 * side)


def resize_mask(mask: Mask, size: Size | None) -> Mask:
    """Resize a mask to the nearest pixels; None leaves it as it is."""
    if size is None or mask.shape == tuple(size):
        return mask
    rows, columns = map(find_nearest, mask.shape, size)
    return np.ascontiguousarray(mask[rows][:, columns])


class Normaliser:
    """Turn values 0 to 255 into (value / 255 - mean) / std, the last step of every view."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        values = np.arange(256, dtype=np.float32)[:, None]
        centre, width = (np.asarray(numbers, np.float32) for numbers in (mean, std))
        self.centre, self.factor = 255 * centre, np.reciprocal(255 * width)
        self.table = ((values - self.centre) * self.factor)[:, None]

    def __call__(self, image: Picture) -> Float32[np.ndarray, "H W 3"]:
        """Normalise an image of 8-bit RGB."""
        return cv2.LUT(image, self.table)
