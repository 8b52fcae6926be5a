"""Superpixels without a network, for people without a GPU: regions of a classic segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from fmawsss.resizing import Picture, fit_longest, resize_image
from fmawsss.sam.partitions import record_partition, resize_superpixels
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class ClassicSuperpixels:
    """Cut images with a function that labels every pixel; all regions are wholes.

    segment: any of `skimage.segmentation`, or `cut_by_colour`.
    longest: of larger images, a copy with this longer side is cut, and its regions enlarged.
    """

    segment: Callable[[Picture], Integer[np.ndarray, "H W"]]
    longest: int

    def generate_batch(self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> list[Superpixels]:
        """Cut RGB images."""
        return [self._cut(image) for image in images]

    def _cut(self, image: Picture) -> Superpixels:
        height, width = image.shape[:2]
        seen = resize_image(image, fit_longest((height, width), self.longest))
        return resize_superpixels(record_partition(self.segment(seen)), (height, width))


def cut_by_colour(
    image: Picture, grain: float, sigma: float, regions: int
) -> Integer[np.ndarray, "H W"]:
    """Cut an image by Felzenszwalb's graph of neighbouring pixels, into at most so many `regions`.

    grain: how far regions grow before contrast parts them, in parts of the image.
    sigma: of the smoothing before, in pixels.
    """
    from skimage.segmentation import felzenszwalb

    pixels = image.shape[0] * image.shape[1]
    smallest = -(-pixels // regions)
    return felzenszwalb(image, scale=grain * pixels, sigma=sigma, min_size=smallest)
