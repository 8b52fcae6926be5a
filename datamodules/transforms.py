"""Training augmentation; all randomness comes from a generator that is passed.

The order is that of METHOD 8: colour jitter, range resize, random crop, mirror; normalisation
follows in the data module. Seeds move with their image.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask the network for a newer version

import albumentations as A
import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from datamodules.views import Mask, View
from fmawsss.metrics import IGNORE
from fmawsss.resizing import Picture, Size, resize_image


@dataclass(frozen=True)
class NoAugment:
    """Keep every image as it is, padded on the right and below to sides that `multiple` divides."""

    multiple: int

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """Return the view itself where nothing is to be padded."""
        below, right = (-side % self.multiple for side in view.image.shape[:2])
        if below == right == 0:
            return view

        # the mark of what lies outside
        inside = np.zeros(view.image.shape[:2], np.uint8)
        edges = (0, below, 0, right, cv2.BORDER_CONSTANT)
        image = cv2.copyMakeBorder(view.image, *edges, value=(0, 0, 0))
        outside, *masks = (
            cv2.copyMakeBorder(mask, *edges, value=IGNORE) for mask in (inside, *view.masks())
        )
        return view.carry(image, masks, outside == IGNORE)


@dataclass(frozen=True)
class FixedView:
    """Squash every image to a square of `size` pixels, always the same."""

    size: int

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """Return the square view."""
        square = (self.size, self.size)
        masks = [resize_mask(mask, square) for mask in view.masks()]
        return view.carry(resize_image(view.image, square), masks)


class RandomView:
    """Jitter colours, resize within a range, crop a square and mirror one in two (METHOD 8).

    `long_side` is the closed range of the target for the longer side; the shorter one never falls
    below `short_side`. A crop that exceeds the image is filled on the right and below: mean colour,
    seed 255, marked as padding.
    """

    def __init__(
        self,
        jitter: Callable[[Picture, np.random.Generator], Picture],
        long_side: tuple[int, int],
        short_side: int,
        crop: int,
    ) -> None:
        self.jitter = jitter
        self.long_side = long_side
        self.short_side = short_side
        # mirrored before the crop: the same distribution, and padding stays right and below
        self.crop_and_mirror = A.Compose([A.HorizontalFlip(p=0.5), make_padded_crop(crop)])

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """Draw a view."""
        size = draw_range_size(view.image.shape[:2], self.long_side, self.short_side, rng)
        image = resize_image(self.jitter(view.image, rng), size)
        masks = [np.zeros(size, np.uint8), *(resize_mask(mask, size) for mask in view.masks())]

        self.crop_and_mirror.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        moved = self.crop_and_mirror(image=image, masks=masks)
        outside = moved["masks"][0] == IGNORE
        padding = outside if outside.any() else None
        return view.carry(moved["image"], moved["masks"][1:], padding)


def make_padded_crop(side: int) -> A.RandomCrop:
    """Make a random square crop that fills what lies outside the image, right and below."""
    return A.RandomCrop(
        side, side, pad_if_needed=True, pad_position="top_left", fill=0, fill_mask=IGNORE
    )


class NoJitter:
    """Keep the colours."""

    def __call__(self, image: Picture, rng: np.random.Generator) -> Picture:
        """Return the image itself."""
        return image


@dataclass(frozen=True)
class ColourChange:
    """One draw of the jitter: amounts of brightness, contrast, saturation and hue, and their order.

    Brightness and hue are shifts of 256, contrast and saturation factors, None is no change;
    `order` holds indices into the amounts.
    """

    amounts: tuple[float | None, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue, each one in two, in random order (METHOD 8).

    `brightness` and `hue` are the largest shifts (of 256), `contrast` and `saturation` the ranges
    of the factor. `apply` is `change_colours` or `change_colours_released`.
    """

    brightness: float
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: float
    apply: Callable[[Picture, ColourChange], Picture]

    def __call__(self, image: Picture, rng: np.random.Generator) -> Picture:
        """Draw a change and apply it."""
        return self.apply(image, self.draw(rng))

    def draw(self, rng: np.random.Generator) -> ColourChange:
        """Flip the four coins and draw the amounts."""
        brightness = (-self.brightness, self.brightness)
        hue = (-self.hue, self.hue)
        amounts = tuple(
            float(rng.uniform(*bounds)) if rng.random() < 0.5 else None
            for bounds in (brightness, self.contrast, self.saturation, hue)
        )
        return ColourChange(amounts, tuple(rng.permutation(4).tolist()))


def change_colours(image: Picture, change: ColourChange) -> Picture:
    """Apply a colour change; brightness is clipped at 0 and 255, hue wraps around its circle."""
    return _change(image, change, _shift_clipped, _shift_wrapped)


def change_colours_released(image: Picture, change: ColourChange) -> Picture:
    """Apply a colour change as released (METHOD 9).

    Brightness and hue reflect below 0 and saturate above 255.
    """
    return _change(image, change, _shift_reflected, _shift_reflected)


def _change(image: Picture, change: ColourChange, shift: Callable, turn: Callable) -> Picture:
    # in the order of the amounts
    steps = (
        lambda picture, amount: cv2.LUT(picture, shift(amount)),
        lambda picture, amount: cv2.LUT(picture, _scale_values(amount)),
        lambda picture, amount: _change_saturation(picture, _scale_values(amount)),
        lambda picture, amount: _change_hue(picture, turn(amount)),
    )

    # in the order of the draw
    for index in change.order:
        amount = change.amounts[index]
        if amount is not None:
            image = steps[index](image, amount)
    return image


LookupTable = UInt8[np.ndarray, "256"]
_VALUES = np.arange(256, dtype=np.uint8)


def _shift_clipped(amount: float) -> LookupTable:
    return np.clip(np.rint(_VALUES + amount), 0, 255).astype(np.uint8)


def _shift_wrapped(amount: float) -> LookupTable:
    return (np.rint(_VALUES + amount).astype(np.int64) % 256).astype(np.uint8)


def _shift_reflected(amount: float) -> LookupTable:
    return cv2.convertScaleAbs(_VALUES, alpha=1, beta=amount).ravel()


def _scale_values(factor: float) -> LookupTable:
    return cv2.convertScaleAbs(_VALUES, alpha=factor, beta=0).ravel()


def _change_saturation(image: Picture, table: LookupTable) -> Picture:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = table[hsv[..., 1]]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _change_hue(image: Picture, table: LookupTable) -> Picture:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] = table[hsv[..., 0]]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def draw_range_size(
    size: Size, long_side: tuple[int, int], short_side: int, rng: np.random.Generator
) -> Size:
    """Draw the size of an image: its longer side in a range, its shorter one large enough."""
    return find_range_size(size, int(rng.integers(long_side[0], long_side[1] + 1)), short_side)


def find_range_size(size: Size, target: int, short_side: int) -> Size:
    """Scale a size by `max(target / long side, short_side / short side)`, rounding halves to even.

    >>> find_range_size((375, 500), 288, 224)
    (224, 299)
    """
    ratio = max(target / max(size), short_side / min(size))
    return round(ratio * size[0]), round(ratio * size[1])


def resize_mask(mask: Mask, size: Size) -> Mask:
    """Resize a mask by nearest pixels, as Pillow does."""
    if mask.shape == size:
        return mask
    return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
