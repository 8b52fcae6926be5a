"""What people draw, as pixels: polygons, boxes, ellipses, run lengths, brushes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from datamodules.coco_regions import is_number
from fmawsss.files.polygons import fill_polygon
from fmawsss.resizing import Size
from stages.exports.labelstudio import CHANNELS

MOST_CORNERS = 1 << 20  # of a polygon
Pixels = Bool[np.ndarray, "H W"]


def check_corners(corners: Sequence[Any], size: Size) -> Float[np.ndarray, "V 2"]:
    """Return corners (x, y) as numbers; raises ValueError for what is no polygon in an image.

    A corner may lie outside of the image, by its size at most.
    """
    if not 3 <= len(corners) <= MOST_CORNERS:
        raise ValueError(f"a polygon of {len(corners)} corners, expected 3 to {MOST_CORNERS}")
    if not all(len(corner) == 2 and all(map(is_number, corner)) for corner in corners):
        raise ValueError("a corner of a polygon is two finite numbers, x and y")
    found = np.array(corners, np.float64)
    sides = np.array([size[1], size[0]])
    if ((found < -sides) | (found > 2 * sides)).any():
        raise ValueError(f"a polygon leaves the image of {size[1]}x{size[0]} pixels far behind")
    return found


def draw_polygon(corners: Sequence[Any], size: Size) -> Pixels:
    """Draw a polygon; raises ValueError for what is none."""
    return fill_polygon(check_corners(corners, size), size)


def draw_box(box: Sequence[Any], turned: Any, size: Size, about_centre: bool) -> Pixels:
    """Draw a box (left, top, width, height), turned clockwise by degrees.

    about_centre: it turns about its centre, else about its upper left corner.
    """
    left, top, width, height = require_numbers(box, 4)
    (degrees,) = require_numbers([turned], 1)
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    pivot = (width / 2, height / 2) if about_centre else (0.0, 0.0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [
        (
            left + pivot[0] + cosine * (x - pivot[0]) - sine * (y - pivot[1]),
            top + pivot[1] + sine * (x - pivot[0]) + cosine * (y - pivot[1]),
        )
        for x, y in corners
    ]
    return draw_polygon(moved, size)


def draw_ellipse(ellipse: Sequence[Any], turned: Any, size: Size) -> Pixels:
    """Draw an ellipse (centre x, y, radius x, y), turned clockwise by degrees."""
    x, y, across, down = require_numbers(ellipse, 4)
    (degrees,) = require_numbers([turned], 1)
    if across <= 0 or down <= 0:
        raise ValueError("an ellipse has two radii above 0")
    column, row = np.arange(size[1])[None] + 0.5 - x, np.arange(size[0])[:, None] + 0.5 - y
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, beside = cosine * column + sine * row, cosine * row - sine * column
    return (along / across) ** 2 + (beside / down) ** 2 <= 1


def draw_runs(runs: Sequence[Any], box: Sequence[Any], size: Size) -> Pixels:
    """Draw run lengths in a box (left, top, width, height): row by row, the first run outside."""
    left, top, width, height = map(int, require_numbers(box, 4))
    if min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"a mask leaves its image of {size[1]}x{size[0]} pixels")
    lengths = np.array(require_numbers(runs, len(runs)))
    if (lengths < 0).any() or (lengths % 1).any() or lengths.sum() != width * height:
        raise ValueError(f"run lengths that do not fill {width}x{height} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    pixels = np.zeros(size, bool)
    part = np.repeat(inside, lengths.astype(np.int64)).reshape(height, width)
    pixels[top : top + height, left : left + width] = part
    return pixels


def decode_brush(data: Sequence[Any], size: Size) -> Pixels:
    """Decode Label Studio's brush, the inverse of `encode_brush`; the last channel is what counts.

    Raises:
        ValueError: for what is no brush of an image of this size.
    """
    if not all(type(byte) is int and 0 <= byte < 256 for byte in data):
        raise ValueError("a brush is a list of bytes")
    bits = Bits(np.unpackbits(np.array(data, np.uint8)))
    count, width = bits.take(32), bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    if count != size[0] * size[1] * CHANNELS:
        raise ValueError(f"a brush of {count} values, expected {CHANNELS} for each pixel")

    # Runs of one value, and values one by one
    values = np.zeros(count, np.uint16)
    place = 0
    while place < count:
        same = bits.take(1)
        length = bits.take(lengths[bits.take(2)]) + 1
        if place + length > count:
            raise ValueError("a brush whose runs go beyond the image")
        if same:
            values[place : place + length] = bits.take(width)
        else:
            values[place : place + length] = bits.take_all(length, width)
        place += length
    return values.reshape(*size, CHANNELS)[..., -1] > 0


class Bits:
    """Bits, taken one number after the other, the highest bit first."""

    def __init__(self, bits: np.ndarray) -> None:
        self.bits = bits
        self.place = 0

    def take(self, count: int) -> int:
        """Take a number of so many bits; raises ValueError behind the end."""
        return int(self.take_all(1, count)[0])

    def take_all(self, numbers: int, count: int) -> np.ndarray:
        """Take several numbers of so many bits each."""
        end = self.place + numbers * count
        if end > len(self.bits):
            raise ValueError("a brush that is cut off")
        part = self.bits[self.place : end].reshape(numbers, count).astype(np.int64)
        self.place = end
        return part @ (1 << np.arange(count - 1, -1, -1))


def require_numbers(values: Sequence[Any], count: int) -> list[float]:
    """Return finite numbers; raises ValueError for what is none."""
    if len(values) != count or not all(map(is_number, values)):
        raise ValueError(f"expected {count} finite numbers, found {str(values)[:80]}")
    return list(map(float, values))
