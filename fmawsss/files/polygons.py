"""Polygons around masks, for formats that know nothing else: along the edges of pixels, so that
nothing is lost.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Int

Polygon = Int[
    np.ndarray, "V 2"
]  # corners (x, y), in pixels from the upper left corner of the image


def trace_polygons(mask: Bool[np.ndarray, "H W"]) -> list[Polygon]:
    """Outline the regions of a mask; together the polygons cover exactly its pixels.

    Polygons know no holes: a region with a hole is cut in two at it.
    """
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    polygons: list[Polygon] = []
    for index in range(1, count):
        x, y, width, height = boxes[index, :4].tolist()
        region = regions[y : y + height, x : x + width] == index
        polygons += [polygon + np.array([x, y]) for polygon in _trace_region(region)]
    return polygons


def _trace_region(region: Bool[np.ndarray, "h w"]) -> list[Polygon]:
    # in a picture of twice the size, each contour point tells on which edge of its pixel it lies
    doubled = region.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = [
        points for points, relation in zip(contours, hierarchy[0], strict=True) if relation[3] >= 0
    ]
    if not holes:
        return [keep_corners((points[:, 0] + 1) // 2) for points in contours]
    column = int(holes[0][:, 0, 0].min()) // 2 + 1  # the first one of the hole
    columns = np.arange(region.shape[1])
    return trace_polygons(region & (columns < column)) + trace_polygons(
        region & (columns >= column)
    )


def keep_corners(points: Int[np.ndarray, "K 2"]) -> Polygon:
    """Leave out repeated points and those on a straight line between their neighbours.

    >>> keep_corners(np.array([[0, 0], [1, 0], [2, 0], [2, 0], [2, 1], [0, 1]])).tolist()
    [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]
    return points[~straight]
