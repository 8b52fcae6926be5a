"""Polygons around masks, along the edges of pixels, and masks of polygons that people drew."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from fmawsss.resizing import Size

# corners (x, y), in pixels from the upper left corner of the image
Polygon = Int[np.ndarray, "V 2"]

MOST_CROSSINGS = 1 << 25  # of rows, by the edges of a polygon


def trace_polygons(mask: Bool[np.ndarray, "H W"]) -> list[Polygon]:
    """Outline the regions of a mask; together the polygons cover exactly its pixels.

    Polygons know no holes: a region with a hole is cut in two at it.
    """
    pixels = mask.astype(np.uint8)
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    polygons: list[Polygon] = []
    for index in range(1, count):
        x, y, width, height = boxes[index, :4].tolist()
        region = regions[y : y + height, x : x + width] == index
        polygons += [polygon + np.array([x, y]) for polygon in _trace_region(region)]
    return polygons


def _trace_region(region: Bool[np.ndarray, "h w"]) -> list[Polygon]:
    """Outline one region, cut in two where it has a hole."""
    # in a picture of twice the size, each contour point tells on which edge of its pixel it lies
    doubled = region.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = hierarchy[0][:, 3]
    holes = [points for points, parent in zip(contours, parents, strict=True) if parent >= 0]
    if not holes:
        return [keep_corners((points[:, 0] + 1) // 2) for points in contours]

    # cut at the first column of the hole
    column = int(holes[0][:, 0, 0].min()) // 2 + 1
    left = np.arange(region.shape[1]) < column
    return trace_polygons(region & left) + trace_polygons(region & ~left)


def keep_corners(points: Int[np.ndarray, "K 2"]) -> Polygon:
    """Leave out repeated points and those on a straight line between their neighbours.

    >>> keep_corners(np.array([[0, 0], [1, 0], [2, 0], [2, 0], [2, 1], [0, 1]])).tolist()
    [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    straight = before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]
    return points[~straight]


def fill_polygon(corners: Float[np.ndarray, "V 2"], size: Size) -> Bool[np.ndarray, "H W"]:
    """Fill a polygon: the pixels whose centre is inside.

    Corners are (x, y) from the upper left corner of the image. Where a polygon crosses itself, what
    it goes around twice is outside. What lies beyond the image is cut off.

    >>> fill_polygon(np.array([[0.0, 0], [2, 0], [2, 1], [0, 1]]), (2, 3)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]

    Raises:
        ValueError: for a polygon whose edges cross more rows than anyone draws.
    """
    height, width = size
    start, end = corners, np.roll(corners, -1, axis=0)

    # the rows whose centres lie between the ends of each edge
    first, last = (
        np.clip(np.ceil(side - 0.5), 0, height).astype(np.int64)
        for side in (np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1]))
    )
    counts = last - first
    if counts.sum() > MOST_CROSSINGS:
        raise ValueError(f"a polygon of {len(corners)} corners crosses {counts.sum()} rows")
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts) + first[edge]

    # where they are crossed, outside becomes inside and the other way round
    rise = (end - start)[edge]
    crossed = start[edge, 0] + (row + 0.5 - start[edge, 1]) * rise[:, 0] / rise[:, 1]
    column = np.clip(np.ceil(crossed - 0.5), 0, width).astype(np.int64)
    turns = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    return (turns.reshape(height, width + 1).cumsum(axis=1) % 2 == 1)[:, :width]
