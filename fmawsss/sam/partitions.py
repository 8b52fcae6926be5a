"""From a label image to the record of its regions, at the size of a larger image."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int32, Int64, Integer
from scipy.ndimage import find_objects

from fmawsss.resizing import Size
from fmawsss.superpixels import Superpixels

WHOLE = 2  # the level of masks that can stand for objects


def record_partition(labels: Integer[np.ndarray, "h w"], size: Size) -> Superpixels:
    """Record a partition that is enlarged to `size`; no array has as many pixels as that.

    Level 2, predicted IoU and stability 1, no point (NaN).
    """
    # which small row and column each large one shows; regions by number
    height, width = size
    rows = np.arange(height) * labels.shape[0] // height
    columns = np.arange(width) * labels.shape[1] // width
    values, numbers = np.unique(labels, return_inverse=True)
    labels, amount = numbers.reshape(labels.shape), len(values)

    # what a record tells of them
    owner, start = find_runs(labels, rows, columns)
    stop = np.append(start[1:], height * width)
    counts, offsets = encode_partition(owner, start, stop, amount)
    area = np.bincount(owner, weights=stop - start, minlength=amount).astype(np.int64)
    ones = torch.ones(amount)
    return Superpixels(
        size=(height, width),
        level=torch.full((amount,), WHOLE, dtype=torch.uint8),
        area=torch.from_numpy(area),
        box=torch.from_numpy(bound_regions(labels, rows, columns)),
        predicted_iou=ones,
        stability=ones,
        point=torch.full((amount, 2), torch.nan, dtype=torch.float64),
        crop=torch.tensor([[0, 0, width, height]]).expand(amount, 4).contiguous(),
        counts=torch.from_numpy(counts),
        offsets=torch.from_numpy(offsets),
    )


def find_runs(
    labels: Integer[np.ndarray, "h w"],
    rows: Int64[np.ndarray, "H"],
    columns: Int64[np.ndarray, "W"],
) -> tuple[Int64[np.ndarray, "S"], Int64[np.ndarray, "S"]]:
    """List the runs of one region in `labels[rows][:, columns]`: region, first pixel.

    Pixels are counted column by column; `rows` and `columns` rise and leave none out.
    """
    # in a small column a run begins at the top, and wherever the region changes
    begins = np.diff(labels.T, axis=1, prepend=-1) != 0
    column, row = begins.nonzero()
    ends = np.searchsorted(column, np.arange(labels.shape[1] + 1))

    # a large column repeats the runs of a small one
    amounts = np.diff(ends)[columns]
    skipped = ends[columns] - (amounts.cumsum() - amounts)
    places = np.repeat(skipped, amounts) + np.arange(amounts.sum())
    tops = np.searchsorted(rows, row[places])
    start = np.repeat(np.arange(len(columns)), amounts) * len(rows) + tops

    # from the foot of a column to the head of the next a run may go on
    owner = labels[row[places], column[places]]
    fresh = np.diff(owner, prepend=-1) != 0
    return owner[fresh], start[fresh]


def encode_partition(
    owner: Int64[np.ndarray, "S"],
    start: Int64[np.ndarray, "S"],
    stop: Int64[np.ndarray, "S"],
    amount: int,
) -> tuple[Int32[np.ndarray, "R"], Int64[np.ndarray, "O"]]:
    """Code the runs of a partition as `superpixels.encode_masks` codes its masks."""
    # the images of all regions in a row: a run ends where its region begins or stops
    pixels = stop[-1]
    borders = np.concatenate([start, stop]) + pixels * np.concatenate([owner, owner])

    # and with the image, unless the region itself reaches there
    short = np.delete(np.arange(amount), owner[-1])
    ends = np.sort(np.concatenate([borders, pixels * (short + 1)]))
    runs = 2 * np.bincount(owner, minlength=amount)
    runs[short] += 1
    return np.diff(ends, prepend=0).astype(np.int32), np.append(0, runs.cumsum())


def bound_regions(
    labels: Integer[np.ndarray, "h w"],
    rows: Int64[np.ndarray, "H"],
    columns: Int64[np.ndarray, "W"],
) -> Int64[np.ndarray, "M 4"]:
    """Bound the regions of `labels[rows][:, columns]` as `Superpixels.box` does."""
    found = find_objects(labels + 1)
    top, left = (np.array([place[axis].start for place in found]) for axis in (0, 1))
    below, beyond = (np.array([place[axis].stop for place in found]) for axis in (0, 1))
    y, x = np.searchsorted(rows, top), np.searchsorted(columns, left)
    bottom, right = np.searchsorted(rows, below) - 1, np.searchsorted(columns, beyond) - 1
    return np.stack([x, y, right - x, bottom - y], axis=1)
