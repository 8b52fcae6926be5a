"""Journals beside a product: a line per batch with what was counted of it, read and summed."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from fmawsss.files.contents import digest_file
from fmawsss.files.images import TURNED_TIFFS, is_turned_tiff, stamp_file
from fmawsss.files.json_files import many_objects
from fmawsss.files.listing import current, stamp_files
from fmawsss.files.products import ProductMismatch
from fmawsss.files.texts import name_first
from fmawsss.metrics import (
    SegmentationMetrics,
    count_boundaries,
    count_confusion,
    summarise_confusion,
)
from fmawsss.records import ImageRecord, Prediction
from fmawsss.resizing import resize_mask

logger = logging.getLogger(__name__)

WORST = 10  # images that are named
AT_ONCE = 4096  # images whose counts are summed in one step

Line: TypeAlias = Mapping[str, Any]  # what the journal says of an image
Counts: TypeAlias = Sequence[Sequence[int]] | Int64[np.ndarray, "N 3"]
"""A sparse matrix: rows of row, column, pixels."""


def place_journal(product: Path, shard: int, rank: int) -> Path:
    """Name the journal that one process writes beside a product."""
    return product.with_name(f"{product.name}.scores.{shard}-{rank}.jsonl")


def list_journals(product: Path) -> list[Path]:
    """List the journals beside a product, one per process."""
    return sorted(product.parent.glob(f"{product.name}.scores.*.jsonl"))


def read_lines(product: Path) -> dict[str, Line]:
    """Read what the journals beside a product said last of each image, in complete lines.

    Those of the product read last are remembered until they change.
    """
    return parse_journals(tuple((path, stamp_file(path)) for path in list_journals(product)))


@lru_cache(maxsize=1)
@many_objects()
def parse_journals(journals: Sequence[tuple[Path, str]]) -> dict[str, Line]:
    """Parse journals, each with what its file was like when this was asked."""
    return {line["name"]: pack_line(line) for path, _ in journals for line in stream_lines(path)}


def stream_lines(journal: Path) -> Iterator[dict[str, Any]]:
    """Read what a journal says of each image; of one that it names twice the last counts."""
    with journal.open(encoding="utf-8") as file:
        for text in filter(str.strip, file):
            try:
                found = json.loads(text)
            except json.JSONDecodeError:
                logger.warning("%s: a line was cut off; its images count as not done", journal)
            else:  # older journals have a line per image
                yield from found if isinstance(found, list) else [found]


def pack_line(line: dict[str, Any]) -> Line:
    """Hold counts in arrays, and regions of the last kind of mask: COCO's journals are large."""
    packed: dict[str, Any] = {
        part: {kind: np.array(counts, np.int64) for kind, counts in line[part].items()}
        for part in ("confusion", "boundary")
        if part in line
    }
    if "regions" in line:
        packed["regions"] = dict(list(line["regions"].items())[-1:])
    return line | packed


def describe_record(record: ImageRecord) -> dict[str, Any]:
    """Say where an image and its truth lie, and its labels (indices); None where unknown."""
    return {
        "image": str(record.image.absolute()),
        "image_stamp": stamp_image(record.image),
        "truth": None if record.truth is None else str(record.truth.absolute()),
        "labels": None if record.labels is None else list(record.labels),
    }


def stamp_image(path: Path) -> dict[str, int | str]:
    """Note what tells an image file from another of its name."""
    status, digest = path.stat(), digest_file(path)
    stamp: dict[str, int | str] = {"bytes": status.st_size, "modified": status.st_mtime_ns}
    stamp["sha256"] = digest
    return {**stamp, "read_by": TURNED_TIFFS} if is_turned_tiff(path) else stamp


def is_unchanged(path: Path, stamp: Mapping[str, int | str]) -> bool:
    """Say whether a file is the noted one, read as now; it is read when its time alone differs."""
    found = current().ask(path)
    if found.size != stamp["bytes"]:
        return False
    if is_turned_tiff(path) and stamp.get("read_by") != TURNED_TIFFS:
        return False
    return found.modified == stamp["modified"] or digest_file(path) == stamp["sha256"]


def refuse_changed(product: Path, records: Sequence[ImageRecord]) -> None:
    """Raise ProductMismatch when images are no longer those that a product was made from."""
    lines = read_lines(product).items()
    stamps = {name: line["image_stamp"] for name, line in lines if "image_stamp" in line}
    noted = [record for record in records if record.name in stamps]
    stamp_files([record.image for record in noted])
    changed = [r.name for r in noted if not is_unchanged(r.image, stamps[r.name])]
    if changed:
        raise ProductMismatch(
            f"{product} was made from other files of {len(changed)} of {len(records)} images: "
            f"{name_first(changed)}. Remove what it holds of these to make it anew, add "
            "overwrite=true to make everything anew, or choose another paths.work to keep both."
        )


def count_errors(
    prediction: Prediction, truth: Integer[Tensor, "H W"] | None, classes: int
) -> dict[str, Any]:
    """Count confusion and boundary pixels of each kind of mask; nothing without truth.

    `classes` includes the background.
    """
    confusion: dict[str, Any] = {}
    boundary: dict[str, Any] = {}
    if truth is not None:
        for kind, found in prediction.masks().items():
            mask = fit_mask(found, truth)
            confusion[kind] = list_counts(count_confusion(mask, truth, classes))
            boundary[kind] = list_counts(count_boundaries(mask, truth, classes))
    return {"name": prediction.name, "confusion": confusion, "boundary": boundary}


def fit_mask(mask: UInt8[Tensor, "h w"], truth: Integer[Tensor, "H W"]) -> UInt8[Tensor, "H W"]:
    """Enlarge the mask of a copy of an image to the image."""
    if mask.shape == truth.shape:
        return mask
    height, width = truth.shape
    return torch.from_numpy(resize_mask(mask.cpu().numpy(), (height, width))).to(mask.device)


def list_counts(matrix: Int64[Tensor, "rows columns"]) -> list[list[int]]:
    """List the entries of a sparse matrix as (row, column, pixels)."""
    return [[*index, int(matrix[tuple(index)])] for index in matrix.nonzero().tolist()]


def sum_counts(
    entries: Iterable[Mapping[str, Counts]], shape: tuple[int, int]
) -> dict[str, Int64[Tensor, "rows columns"]]:
    """Sum the sparse matrices of images, by kind of mask, many images at once."""
    totals: dict[str, np.ndarray] = {}
    left = iter(entries)
    while batch := list(islice(left, AT_ONCE)):
        found: dict[str, list[Int64[np.ndarray, "N 3"]]] = defaultdict(list)
        for entry in batch:
            for kind, counts in entry.items():
                found[kind].append(np.asarray(counts, np.int64).reshape(-1, 3))
        for kind, triples in found.items():
            total = totals.setdefault(kind, np.zeros(shape, np.int64))
            row, column, pixels = np.concatenate(triples).T
            np.add.at(total, (row, column), pixels)
    return {kind: torch.from_numpy(total) for kind, total in totals.items()}


def sum_confusion(lines: Iterable[Line], classes: int) -> Int64[Tensor, "R R+1"] | None:
    """Sum the confusion matrices of the last kind of mask; None without ground truth.

    `classes` includes the background.
    """
    totals = sum_counts((line["confusion"] for line in lines), (classes, classes + 1))
    return list(totals.values())[-1] if totals else None


def score_lines(lines: Sequence[Line], classes: Sequence[str]) -> dict[str, SegmentationMetrics]:
    """Sum the lines of a split into one confusion matrix per kind of mask, and summarise it."""
    rows = ("background", *classes)
    totals = sum_counts((line["confusion"] for line in lines), (len(rows), len(rows) + 1))
    return {kind: summarise_confusion(total, rows) for kind, total in totals.items()}


def detail_lines(lines: Sequence[Line], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Tell boundary IoU, confusion matrix and worst images of a split, per kind of mask."""
    rows = ("background", *classes)
    confusions = sum_counts((line["confusion"] for line in lines), (len(rows), len(rows) + 1))
    boundaries = sum_counts((line.get("boundary", {}) for line in lines), (len(rows), 2))
    details = {}
    for kind, total in confusions.items():
        # Boundary IoU is NaN where neither truth nor mask has a boundary
        shared, either = boundaries.get(kind, torch.zeros(len(rows), 2)).unbind(1)
        iou = shared / either
        details[kind] = {
            "mean_boundary_iou": iou[total.sum(1) > 0].mean().item(),
            "boundary_iou": dict(zip(rows, iou.tolist(), strict=True)),
            "confusion": total.tolist(),
            "worst_images": find_worst(lines, kind),
        }
    return details


def find_worst(lines: Sequence[Line], kind: str) -> dict[str, float]:
    """Find the images whose masks of a kind are worst, with their mIoU."""
    mious = {line["name"]: find_miou(line["confusion"].get(kind, ())) for line in lines}
    known = {name: miou for name, miou in mious.items() if miou is not None}
    return {name: known[name] for name in sorted(known, key=known.__getitem__)[:WORST]}


def find_miou(counts: Counts) -> float | None:
    """Return the IoU of one image, averaged over the classes in its truth; None without any."""
    hits: dict[int, int] = {}
    union: dict[int, int] = {}
    triples = np.asarray(counts, np.int64).tolist()
    for truth, guess, pixels in triples:
        union[truth] = union.get(truth, 0) + pixels
        if truth == guess:
            hits[truth] = pixels
        else:
            union[guess] = union.get(guess, 0) + pixels

    present = sorted({truth for truth, _, _ in triples})
    if not present:
        return None
    ious = [hits.get(truth, 0) / union[truth] for truth in present]
    return torch.tensor(ious, dtype=torch.float64).mean().item()


def remove_nan(values: Any) -> Any:
    """Replace NaN (a class that neither truth nor masks have) by null, which JSON knows."""
    if isinstance(values, dict):
        return {key: remove_nan(value) for key, value in values.items()}
    return None if isinstance(values, float) and math.isnan(values) else values
