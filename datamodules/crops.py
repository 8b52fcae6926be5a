"""Views for segmentation networks: scaled, cropped so that no class fills them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import albumentations as A
import numpy as np

from datamodules.transforms import Mask, View, make_padded_crop, resize_mask
from fmawsss.metrics import IGNORE
from fmawsss.resizing import Picture, find_short_size, resize_image

TRIES = 10  # crops drawn before one is taken as it is


class ScaledCrop:
    """Scale at random, crop a square that no class fills, mirror one in two, change the colours.

    The shorter side becomes `crop` times one of `scales`, the longer one at most `longest`. A crop
    is drawn again, ten times at most, while one class has more than `class_share` of its valid seed
    pixels. What lies outside the image is filled on the right and below: mean colour, seed 255,
    marked as padding.
    """

    def __init__(
        self,
        jitter: Callable[[Picture, np.random.Generator], Picture],
        scales: Sequence[float],
        longest: int,
        crop: int,
        class_share: float,
    ) -> None:
        self.jitter = jitter
        self.scales = tuple(scales)
        self.longest = longest
        self.side = crop
        self.class_share = class_share

        # albumentations draws what is left to chance
        self.crop = A.Compose([make_padded_crop(crop)])
        self.mirror = A.Compose([A.HorizontalFlip(p=0.5)])

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """Draw a view."""
        size = find_short_size(
            view.image.shape[:2], int(self.side * rng.choice(self.scales)), self.longest
        )

        # mirrored before the crop: the same distribution, and padding stays right and below
        self.mirror.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        masks = [np.zeros(size, np.uint8), *(resize_mask(mask, size) for mask in view.masks())]
        moved = self.mirror(image=resize_image(view.image, size), masks=masks)

        # then cropped
        cut = self.draw_crop(moved["image"], moved["masks"], rng)
        outside = cut["masks"][0] == IGNORE
        padding = outside if outside.any() else None
        return view.carry(self.jitter(cut["image"], rng), cut["masks"][1:], padding)

    def draw_crop(self, image: Picture, masks: list[Mask], rng: np.random.Generator) -> dict:
        """Draw crops until one shows more than one class."""
        for _ in range(TRIES):
            self.crop.set_random_state(rng, random.Random(int(rng.integers(2**63))))
            cut = self.crop(image=image, masks=masks)
            if len(masks) == 1 or find_largest_share(cut["masks"][1]) <= self.class_share:
                break
        return cut


def find_largest_share(seed: Mask) -> float:
    """Return the share of the valid pixels that the largest class has; 1 where none is valid.

    >>> find_largest_share(np.array([[0, 0, 3, 255]], np.uint8))
    0.6666666666666666
    """
    counts = np.bincount(seed.ravel(), minlength=256)[:IGNORE]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
