"""Superpixels from a label image, and superpixels of another size, by runs: no mask is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, Int64, Integer

from fmawsss.resizing import Size, find_nearest
from fmawsss.superpixels import Superpixels

WHOLE = 2  # the level of masks that can stand for objects
Numbers = Int64[np.ndarray, "S"]
Pieces = tuple[Numbers, Numbers, Numbers, Numbers]  # mask, column, first row, row after the last


def record_partition(labels: Integer[np.ndarray, "H W"]) -> Superpixels:
    """Record a partition: level 2, predicted IoU and stability 1, no point (NaN)."""
    height, width = labels.shape
    values, numbers = np.unique(labels, return_inverse=True)
    amount, ones = len(values), torch.ones(len(values))
    return Superpixels(
        size=(height, width),
        level=torch.full((amount,), WHOLE, dtype=torch.uint8),
        predicted_iou=ones,
        stability=ones,
        point=torch.full((amount, 2), torch.nan, dtype=torch.float64),
        crop=torch.tensor([[0, 0, width, height]]).expand(amount, 4).contiguous(),
        **describe_pieces(cut_partition(numbers.reshape(labels.shape)), (height, width)),
    )


def resize_superpixels(superpixels: Superpixels, size: Size) -> Superpixels:
    """Resize all masks to the nearest pixels; those that no pixel is left of are dropped."""
    if tuple(superpixels.size) == tuple(size):
        return superpixels
    pieces = resize_pieces(superpixels, size)
    left, owner = np.unique(pieces[0], return_inverse=True)
    scale = torch.tensor(size).flip(0) / torch.tensor(superpixels.size).flip(0)
    kept = torch.from_numpy(left)
    return replace(
        superpixels,
        size=size,
        level=superpixels.level[kept],
        predicted_iou=superpixels.predicted_iou[kept],
        stability=superpixels.stability[kept],
        point=superpixels.point[kept] * scale.double(),
        crop=(superpixels.crop[kept] * scale.repeat(2)).round().long(),
        **describe_pieces((owner, *pieces[1:]), size),
    )


def cut_partition(labels: Int64[np.ndarray, "H W"]) -> Pieces:
    """List the columns of each region, a piece for every stretch of rows."""
    begins = np.diff(labels.T, axis=1, prepend=-1) != 0
    column, top = begins.nonzero()
    bottom = np.append(top[1:], 0)
    bottom[bottom == 0] = len(labels)  # the next piece begins another column
    owner = labels[top, column]
    order = owner.argsort(kind="stable")
    return owner[order], column[order], top[order], bottom[order]


def resize_pieces(superpixels: Superpixels, size: Size) -> Pieces:
    """List the columns of each mask at another size, a piece for every stretch of rows."""
    owner, start, stop = (values.numpy() for values in superpixels.runs())
    height = superpixels.size[0]
    rows, columns = map(find_nearest, superpixels.size, size)

    # the columns of the other size that a run reaches
    first = np.searchsorted(columns, start // height)
    amount = np.searchsorted(columns, (stop - 1) // height, side="right") - first
    column = np.arange(amount.sum()) - np.repeat(amount.cumsum() - amount - first, amount)

    # and the rows there
    head = columns[column] * height
    top = np.searchsorted(rows, np.repeat(start, amount) - head)
    bottom = np.searchsorted(rows, np.repeat(stop, amount) - head)
    owner = np.repeat(owner, amount)
    order = np.lexsort((top, column, owner))
    seen = order[(bottom > top)[order]]
    return owner[seen], column[seen], top[seen], bottom[seen]


def describe_pieces(pieces: Pieces, size: Size) -> dict[str, Any]:
    """Return area, box and codes of masks in pieces, in the order of masks and columns."""
    owner, column, top, bottom = pieces
    amount = int(owner.max(initial=-1)) + 1
    area = np.bincount(owner, weights=bottom - top, minlength=amount).astype(np.int64)

    # box: x, y, last x minus first, last y minus first
    low = np.full((amount, 2), max(size))
    high = np.zeros((amount, 2), np.int64)
    np.minimum.at(low, owner, np.stack([column, top], axis=1))
    np.maximum.at(high, owner, np.stack([column, bottom - 1], axis=1))
    counts, offsets = encode_pieces(pieces, amount, size)
    found = {"area": area, "box": np.concatenate([low, high - low], axis=1)}
    found |= {"counts": counts, "offsets": offsets}
    return {name: torch.from_numpy(values) for name, values in found.items()}


def encode_pieces(
    pieces: Pieces, amount: int, size: Size
) -> tuple[Int32[np.ndarray, "R"], Int64[np.ndarray, "O"]]:
    """Code masks in pieces as `superpixels.encode_masks` does."""
    owner, column, top, bottom = pieces
    pixels = size[0] * size[1]

    # the images of all masks in a row; at the foot of a column a run may go on
    start = owner * pixels + column * size[0] + top
    stop = owner * pixels + column * size[0] + bottom
    fresh = np.append(True, (start[1:] != stop[:-1]) | (owner[1:] != owner[:-1]))
    start, stop, runs = start[fresh], stop[np.append(fresh[1:], True)], owner[fresh]

    # every image ends a run, that of the mask if it reaches there
    ends = pixels * np.arange(1, amount + 1)
    short = ~np.isin(ends, stop)
    borders = np.sort(np.concatenate([start, stop, ends[short]]))
    lengths = 2 * np.bincount(runs, minlength=amount) + short
    return np.diff(borders, prepend=0).astype(np.int32), np.append(0, lengths.cumsum())
