"""Outlines of superpixels: where a network may change its mind (METHOD 11.5)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from fmawsss.superpixels import Superpixels

FARTHEST = 254  # 255 marks what lies outside an image


def measure_clearance(superpixels: Superpixels) -> UInt8[np.ndarray, "H W"]:
    """Measure how far each pixel is from the nearest outline, in whole pixels, rounded down.

    Pixels on an outline have 0; more than 254 is 254, also where there is no outline at all.
    """
    distance = cv2.distanceTransform(
        (~find_outlines(superpixels)).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return np.minimum(distance, FARTHEST).astype(np.uint8)


def find_outlines(superpixels: Superpixels) -> Bool[np.ndarray, "H W"]:
    """Find the pixels with a neighbour, above, below, left or right, in other superpixels.

    Superpixels may overlap and lie in one another. Each has a random number, and a pixel the sum of
    those that hold it, so that two sums differ where two pixels lie in different ones.
    """
    # the sums, from what begins and ends at each pixel, column by column
    height, width = superpixels.size
    owner, start, stop = (values.numpy() for values in superpixels.runs())
    numbers = np.random.default_rng(0).integers(2**63, size=len(superpixels), dtype=np.int64)
    change = np.zeros(height * width + 1, np.int64)
    np.add.at(change, start, numbers[owner])
    np.subtract.at(change, stop, numbers[owner])
    sums = change[:-1].cumsum().reshape(width, height).T

    # both sides of a border are outline
    outline = np.zeros((height, width), bool)
    across, down = sums[:, 1:] != sums[:, :-1], sums[1:] != sums[:-1]
    outline[:, 1:] |= across
    outline[:, :-1] |= across
    outline[1:] |= down
    outline[:-1] |= down
    return outline
