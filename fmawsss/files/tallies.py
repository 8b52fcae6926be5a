"""What journals counted, summed over images: confusion matrices, metrics, the worst images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int64

from fmawsss.files.journals import Line
from fmawsss.metrics import SegmentationMetrics, summarise_confusion

WORST = 10  # images that are named
AT_ONCE = 1024  # images whose counts are summed in one step
ROUNDING = 1 + 1e-12  # mean IoUs that are nearer may be equal

Counts: TypeAlias = Sequence[Sequence[int]]
"""A sparse matrix: rows of row, column, pixels."""


class Stack(NamedTuple):
    """The sparse matrices of several images, one below the other; `owner` counts the images."""

    owner: Int64[np.ndarray, "N"]
    row: Int64[np.ndarray, "N"]
    column: Int64[np.ndarray, "N"]
    pixels: Int64[np.ndarray, "N"]


@dataclass
class Tally:
    """What the images of a split come to, by kind of mask.

    worst: mIoU, number and name of images, the lowest first.
    """

    confusion: dict[str, np.ndarray] = field(default_factory=dict)
    boundary: dict[str, np.ndarray] = field(default_factory=dict)
    worst: dict[str, list[tuple[float, int, str]]] = field(default_factory=dict)


def tally_lines(lines: Iterable[Line], classes: int) -> Tally:
    """Sum lines up, many images at once; `classes` includes the background."""
    tally = Tally()
    for first, batch in split_lines(lines):
        for kind, counts in list_kinds(batch, "confusion").items():
            stack = stack_counts(counts)
            add_counts(tally.confusion, kind, stack, (classes, classes + 1))
            add_worst(tally, kind, first, batch, find_mious(stack, len(batch)))
        for kind, counts in list_kinds(batch, "boundary").items():
            add_counts(tally.boundary, kind, stack_counts(counts), (classes, 2))
    return tally


def split_lines(lines: Iterable[Line]) -> Iterator[tuple[int, list[Line]]]:
    """Take lines in batches, each with the number of its first one."""
    left, first = iter(lines), 0
    while batch := list(islice(left, AT_ONCE)):
        yield first, batch
        first += len(batch)


def list_kinds(lines: Sequence[Line], part: str) -> dict[str, list[Counts]]:
    """List by kind of mask what lines counted, in their order; nothing where one lacks a kind."""
    kinds = dict.fromkeys(kind for line in lines for kind in line.get(part, ()))
    return {kind: [line.get(part, {}).get(kind, ()) for line in lines] for kind in kinds}


def stack_counts(counts: Sequence[Counts]) -> Stack:
    """Stack sparse matrices of images."""
    numbers = chain.from_iterable(chain.from_iterable(counts))
    rows = np.fromiter(numbers, np.int64).reshape(-1, 3)
    owner = np.repeat(np.arange(len(counts)), np.fromiter(map(len, counts), np.int64))
    return Stack(owner, *rows.T)


def add_counts(
    totals: dict[str, np.ndarray], kind: str, stack: Stack, shape: tuple[int, int]
) -> None:
    """Add sparse matrices to the total of their kind."""
    total = totals.setdefault(kind, np.zeros(shape, np.int64))
    np.add.at(total, (stack.row, stack.column), stack.pixels)


def find_mious(confusion: Stack, images: int) -> Float64[np.ndarray, "N"]:
    """Compute `find_miou` of many images, but for the last digit; NaN without any truth."""
    # pixels by image and class: of the truth, of the mask, of both
    width = 1 + int(max(confusion.row.max(initial=0), confusion.column.max(initial=0)))
    right = confusion.row == confusion.column

    def count(classes: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        places = confusion.owner * width + classes
        return np.bincount(places, pixels, images * width)

    truth = count(confusion.row, confusion.pixels)
    hits = count(confusion.row, confusion.pixels * right)
    union = truth + count(confusion.column, confusion.pixels) - hits

    # averaged over the classes of each image's truth
    (present,) = np.nonzero(truth)
    owner = present // width
    known = np.bincount(owner, minlength=images).astype(float)
    known[known == 0] = np.nan
    return np.bincount(owner, hits[present] / union[present], images) / known


def add_worst(
    tally: Tally, kind: str, first: int, lines: Sequence[Line], mious: Float64[np.ndarray, "N"]
) -> None:
    """Enter the worst images of a batch among those of the batches before."""
    # those that may be worse than the worst so far, or than ten others of the batch
    worst = tally.worst.setdefault(kind, [])
    bound = worst[-1][0] if len(worst) == WORST else math.inf
    known = np.sort(mious[~np.isnan(mious)])
    chosen = mious < bound * ROUNDING
    if len(known) > WORST:
        chosen &= mious <= known[WORST - 1] * ROUNDING

    # to the last digit
    for number in np.nonzero(chosen)[0].tolist():
        miou = find_miou(lines[number]["confusion"][kind])
        assert miou is not None
        worst.append((miou, first + number, lines[number]["name"]))
    tally.worst[kind] = sorted(worst)[:WORST]


def score_lines(lines: Iterable[Line], classes: Sequence[str]) -> dict[str, SegmentationMetrics]:
    """Sum the lines of a split into one confusion matrix per kind of mask, and summarise it."""
    return score_tally(tally_lines(lines, 1 + len(classes)), classes)


def score_tally(tally: Tally, classes: Sequence[str]) -> dict[str, SegmentationMetrics]:
    """Summarise the confusion matrix of each kind of mask."""
    rows = ("background", *classes)
    totals = {kind: torch.from_numpy(total) for kind, total in tally.confusion.items()}
    return {kind: summarise_confusion(total, rows) for kind, total in totals.items()}


def detail_lines(lines: Iterable[Line], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Tell boundary IoU, confusion matrix and worst images of a split, per kind of mask."""
    return detail_tally(tally_lines(lines, 1 + len(classes)), classes)


def detail_tally(tally: Tally, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Tell boundary IoU, confusion matrix and worst images, per kind of mask."""
    rows = ("background", *classes)
    details = {}
    for kind, confusion in tally.confusion.items():
        # Boundary IoU is NaN where neither truth nor mask has a boundary
        total = torch.from_numpy(confusion)
        boundary = tally.boundary.get(kind, np.zeros((len(rows), 2), np.int64))
        shared, either = torch.from_numpy(boundary).unbind(1)
        iou = shared / either
        details[kind] = {
            "mean_boundary_iou": iou[total.sum(1) > 0].mean().item(),
            "boundary_iou": dict(zip(rows, iou.tolist(), strict=True)),
            "confusion": total.tolist(),
            "worst_images": {name: miou for miou, _, name in tally.worst[kind]},
        }
    return details


def find_miou(counts: Counts) -> float | None:
    """Return the IoU of one image, averaged over the classes in its truth; None without any."""
    hits: dict[int, int] = {}
    union: dict[int, int] = {}
    for truth, guess, pixels in counts:
        union[truth] = union.get(truth, 0) + pixels
        if truth == guess:
            hits[truth] = pixels
        else:
            union[guess] = union.get(guess, 0) + pixels

    present = sorted({truth for truth, _, _ in counts})
    if not present:
        return None
    ious = [hits.get(truth, 0) / union[truth] for truth in present]
    return torch.tensor(ious, dtype=torch.float64).mean().item()


def remove_nan(values: Any) -> Any:
    """Replace NaN (a class that neither truth nor masks have) by null, which JSON knows."""
    if isinstance(values, dict):
        return {key: remove_nan(value) for key, value in values.items()}
    return None if isinstance(values, float) and math.isnan(values) else values
