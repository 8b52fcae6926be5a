"""The pixels of COCO's regions: polygons and run lengths, checked before they are decoded."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from fmawsss.resizing import Size

CocoRegion = dict[str, Any]  # one entry of "annotations"

MOST_PIXELS = 1 << 28  # of an image
MOST_BITS = 60  # of a number in compressed run lengths


def require_size(size: tuple[Any, Any]) -> Size:
    """Return height and width as whole numbers; raises ValueError for what is no size."""
    whole = [int(side) for side in size if is_number(side) and side == int(side) and side > 0]
    if len(whole) != 2 or math.prod(whole) > MOST_PIXELS:
        raise ValueError(
            f"its height and width are {reprlib.repr(size)}, expected whole numbers of at most "
            f"{MOST_PIXELS} pixels: correct them in the file"
        )
    return whole[0], whole[1]


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def read_region(region: CocoRegion, size: Size) -> list[int] | list[list[float]]:
    """Read the runs or the polygons of a region; raises ValueError naming a wrong annotation."""
    segmentation = region.get("segmentation")
    try:
        if isinstance(segmentation, dict):
            return read_runs(segmentation, size)
        return read_polygons(segmentation, size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"annotation {region.get('id')} has the segmentation {reprlib.repr(segmentation)}, "
            f"expected polygons or an RLE ({fault}); repair the annotation, or take it out"
        ) from error


def decode_region(region: CocoRegion, size: Size) -> Bool[np.ndarray, "H W"]:
    """Decode the pixels of a region; raises ValueError naming the annotation where that fails."""
    parts: Any = read_region(region, size)
    if isinstance(region["segmentation"], dict):
        return np.repeat(np.arange(len(parts)) % 2 == 1, parts).reshape(size, order="F")
    return decode_polygons(parts, size)


def decode_polygons(polygons: list[list[float]], size: Size) -> Bool[np.ndarray, "H W"]:
    """Decode polygons as pycocotools does."""
    try:
        from pycocotools import mask as rle
    except ImportError as error:
        raise ImportError(
            'masks of COCO regions need pycocotools; run `pip install -e ".[coco]"`'
        ) from error
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).astype(bool)


def read_polygons(polygons: Any, size: Size) -> list[list[float]]:
    """Check polygons, for pycocotools trusts what it is given; those below 3 points are empty."""
    if not isinstance(polygons, list):
        raise TypeError("that is no list")
    for polygon in polygons:
        check_polygon(polygon, size)
    return [polygon for polygon in polygons if len(polygon) >= 6]


def check_polygon(polygon: Any, size: Size) -> None:
    """Raise ValueError unless a polygon is pairs of numbers, none an image's size outside of it."""
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise ValueError("a polygon is a list of x, y, x, y, …")
    for place, number in enumerate(polygon):
        side = size[1 - place % 2]
        if not is_number(number) or not -side <= number <= 2 * side:
            raise ValueError(
                f"{reprlib.repr(number)} is no place in an image of {size[0]} x {size[1]} pixels"
            )


def read_runs(segmentation: Mapping[str, Any], size: Size) -> list[int]:
    """Read run lengths, compressed or not: column by column, outside and inside in turn."""
    # Runs
    runs = segmentation["counts"]
    if isinstance(runs, str | bytes):
        runs = expand_runs(runs)
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("run lengths are whole numbers, none below 0")

    # that fill the image
    if segmentation["size"] not in ([*size], size):
        raise ValueError(
            f"an RLE of the size {reprlib.repr(segmentation['size'])}, its image {[*size]}"
        )
    if sum(runs) != size[0] * size[1]:
        raise ValueError("its runs do not cover the image")
    return runs


def expand_runs(text: str | bytes) -> list[int]:
    """Expand compressed run lengths.

    Five bits a letter, the lowest first; from the fourth run on, each is a difference to the one
    before the last.
    """
    runs: list[int] = []
    value = bits = 0
    for letter in text.encode("ascii", "replace") if isinstance(text, str) else text:
        part = letter - 48
        if not 0 <= part < 64 or bits > MOST_BITS:
            raise ValueError("these are no compressed run lengths")
        value |= (part & 31) << bits
        bits += 5
        if part & 32:  # more letters follow
            continue

        # the last letter holds the sign
        value -= (part & 16) << (bits - 4)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    if bits:
        raise ValueError("its compressed run lengths are cut off")
    return runs


def rank_region(decoded: tuple[CocoRegion, np.ndarray]) -> tuple[int, float, int, str]:
    """Return the key by which regions are painted; their pixels are counted without an `area`."""
    region, pixels = decoded
    area, name = region.get("area"), region.get("id", 0)
    return (
        -(region.get("iscrowd") or 0),
        -float(pixels.sum() if area is None else area),
        name if isinstance(name, int) else 0,
        str(name),
    )
