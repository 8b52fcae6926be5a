"""Score masks against ground truth where there is any: counted image by image, so that a killed run
loses nothing.

`scores.json` holds, by stage, split and kind of mask (`scores["network"]["val"]["network"]`): the
fields of `SegmentationScores`; `mean_boundary_iou`, over the classes of the truth, and
`boundary_iou` by class; `confusion`, pixels by truth (rows: background, classes) and prediction
(columns: the same, then what is no class); `worst_images`, the names and mIoU of the worst. What
nothing defines is null. A training with `val_every` adds the split `<split> during training` with
the kinds `last, step N` and `best, step M` (of prompts: for each `power P`).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import lightning as L
import torch
from jaxtyping import Int64, Integer
from rich.console import Console
from rich.table import Table

from callbacks.image_facts import describe_prediction, describe_record, is_unchanged
from fmawsss.agreement import measure_agreement
from fmawsss.boundaries import count_boundaries
from fmawsss.files.images import stamp_file
from fmawsss.files.products import ProductMismatch
from fmawsss.files.storage import write_json
from fmawsss.files.texts import name_first
from fmawsss.metrics import SegmentationScores, count_confusion, summarise_confusion
from fmawsss.records import ImageRecord

logger = logging.getLogger(__name__)

TOTALS = {
    "mIoU": "miou",
    "accuracy": "accuracy",
    "precision": "mean_precision",
    "recall": "mean_recall",
}
TOTALS |= {"boundary IoU": "mean_boundary_iou"}
WORST = 10  # images that are named

Line: TypeAlias = Mapping[str, Any]  # what the journal says of an image
Counts: TypeAlias = Sequence[Sequence[int]]  # a sparse matrix: row, column, pixels


class ScoreJournal(L.Callback):
    """Append a line per image: its confusion by kind of mask (`cam`, `caa`, `sams`, `network`), and
    other facts.

    The journal lies beside the product, one file per process; a broken last line (a killed run) is
    not counted, and its image is done again, as is one whose ground truth (`truths`, by image name)
    changed since it was counted. Nothing is ever chosen by these numbers.
    """

    def __init__(self, product: str | Path, truths: Mapping[str, Path], shard: int = 1) -> None:
        self.product = Path(product)
        self.shard = shard
        self.stamps = {name: stamp_file(path) for name, path in truths.items()}
        self.known = {
            name: line.get("truth_stamp") for name, line in read_lines(self.product).items()
        }
        self.records: dict[str, ImageRecord] = {}

    def has(self, name: str) -> bool:
        """Say whether the image was counted before, against the truth that there is now."""
        return name in self.known and self.known[name] == self.stamps.get(name)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Learn where the images lie."""
        datamodule = trainer.datamodule
        self.records = {
            record.name: record for record in datamodule.read_records(datamodule.predict_split)
        }

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch."""
        classes = len(pl_module.classes) + 1
        truths = batch.truths if batch.truths is not None else [None] * len(outputs)
        path = self.product.with_name(
            f"{self.product.name}.scores.{self.shard}-{trainer.global_rank}.jsonl"
        )
        with path.open("a", encoding="utf-8") as journal:
            for prediction, truth in zip(outputs, truths, strict=True):
                line = {
                    **count_errors(prediction, truth, classes),
                    "agreement": find_agreement(prediction),
                }
                journal.write("\n" + json.dumps({**line, **self._describe(prediction)}) + "\n")

    def _describe(self, prediction: Any) -> dict[str, Any]:
        record = self.records.get(prediction.name)
        known = {} if record is None else describe_record(record)
        return {
            **known,
            "truth_stamp": self.stamps.get(prediction.name),
            **describe_prediction(prediction),
        }


def refuse_changed(product: Path, records: Sequence[ImageRecord]) -> None:
    """Raise ProductMismatch when images are no longer those that a product was made from."""
    stamps = {
        name: line["image_stamp"]
        for name, line in read_lines(product).items()
        if "image_stamp" in line
    }
    changed = [
        r.name for r in records if r.name in stamps and not is_unchanged(r.image, stamps[r.name])
    ]
    if changed:
        raise ProductMismatch(
            f"{product} was made from other files of {len(changed)} of {len(records)} images: "
            f"{name_first(changed)}. "
            "Remove what it holds of these to make it anew, add overwrite=true to make everything "
            "anew, or choose "
            "another paths.work to keep both."
        )


def count_errors(
    prediction: Any, truth: Integer[torch.Tensor, "H W"] | None, classes: int
) -> dict[str, Any]:
    """Count, for each kind of mask of an image, the confusion and the pixels near boundaries;
    nothing without truth.
    """
    masks = prediction.masks() if truth is not None else {}
    return {
        "name": prediction.name,
        "confusion": {
            kind: list_counts(count_confusion(mask, truth, classes)) for kind, mask in masks.items()
        },
        "boundary": {
            kind: list_counts(count_boundaries(mask, truth, classes))
            for kind, mask in masks.items()
        },
    }


def find_agreement(prediction: Any) -> float | None:
    """Measure how well superpixel seeds agree with the seeds they came from; None where there are
    none.
    """
    seeds = getattr(prediction, "seeds", {})
    if not {"sams", "caa"} <= set(seeds):
        return None
    return measure_agreement(seeds["sams"].labels, seeds["caa"].labels, prediction.classes)


def list_counts(confusion: torch.Tensor) -> list[list[int]]:
    """List the entries of a sparse matrix as (row, column, pixels)."""
    return [[*index, int(confusion[tuple(index)])] for index in confusion.nonzero().tolist()]


def list_journals(product: Path) -> list[Path]:
    """List the journals beside a product, one per process."""
    return sorted(product.parent.glob(f"{product.name}.scores.*.jsonl"))


def read_lines(product: Path) -> dict[str, Line]:
    """Read what the journals beside a product say of each image: its last complete line."""
    lines = {}
    for path in list_journals(product):
        for text in filter(None, path.read_text(encoding="utf-8").splitlines()):
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                logger.warning("%s: a line was cut off; its image counts as not done", path)
            else:
                lines[line["name"]] = line
    return lines


def enter_scores(
    path: Path,
    stage: str,
    product: Path,
    parts: Mapping[str, Sequence[str]],
    classes: Sequence[str],
) -> dict[str, dict[str, SegmentationScores]]:
    """Score a product on each of its splits (`parts`, their image names), and enter what is known
    in `scores.json`.
    """
    known, scores = read_lines(product), {}
    for split, names in parts.items():
        lines = [known[name] for name in names if name in known]
        scores[split] = score_lines(lines, classes)
        if scores[split]:
            write_scores(path, stage, split, scores[split], detail_lines(lines, classes))
    return scores


def score_lines(lines: Sequence[Line], classes: Sequence[str]) -> dict[str, SegmentationScores]:
    """Sum the lines of a split's images: one confusion matrix, and its scores, per kind of mask."""
    rows = ("background", *classes)
    totals = sum_counts((line["confusion"] for line in lines), (len(rows), len(rows) + 1))
    return {kind: summarise_confusion(total, rows) for kind, total in totals.items()}


def detail_lines(lines: Sequence[Line], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Tell what else the lines of a split say, per kind of mask: boundary IoU, confusion matrix,
    worst images.
    """
    rows = ("background", *classes)
    confusions = sum_counts((line["confusion"] for line in lines), (len(rows), len(rows) + 1))
    boundaries = sum_counts((line.get("boundary", {}) for line in lines), (len(rows), 2))
    details = {}
    for kind, total in confusions.items():
        shared, either = boundaries.get(kind, torch.zeros(len(rows), 2)).unbind(1)
        iou = shared / either  # NaN where neither has a boundary
        mious = {line["name"]: find_miou(line["confusion"].get(kind, ())) for line in lines}
        known = {name: miou for name, miou in mious.items() if miou is not None}
        details[kind] = {
            "mean_boundary_iou": iou[total.sum(1) > 0].mean().item(),
            "boundary_iou": dict(zip(rows, iou.tolist(), strict=True)),
            "confusion": total.tolist(),
            "worst_images": {
                name: known[name] for name in sorted(known, key=known.__getitem__)[:WORST]
            },
        }
    return details


def find_miou(counts: Counts) -> float | None:
    """Return the IoU of one image, averaged over the classes in its truth; None where its truth has
    none.
    """
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
    return (
        torch.tensor([hits.get(truth, 0) / union[truth] for truth in present], dtype=torch.float64)
        .mean()
        .item()
    )


def sum_confusion(lines: Iterable[Line], classes: int) -> Int64[torch.Tensor, "R R+1"] | None:
    """Sum the confusion matrices of the last kind of mask, `classes` with the background; None
    without ground truth.
    """
    totals = sum_counts((line["confusion"] for line in lines), (classes, classes + 1))
    return list(totals.values())[-1] if totals else None


def sum_counts(
    entries: Iterable[Mapping[str, Counts]], shape: tuple[int, int]
) -> dict[str, Int64[torch.Tensor, "rows columns"]]:
    """Sum the sparse matrices of images, by kind of mask, one after the other."""
    totals: dict[str, torch.Tensor] = {}
    for entry in entries:
        for kind, counts in entry.items():
            total = totals.setdefault(kind, torch.zeros(shape, dtype=torch.int64))
            for row, column, pixels in counts:
                total[row, column] += pixels
    return totals


def write_scores(
    path: Path,
    stage: str,
    split: str,
    scores: Mapping[str, SegmentationScores],
    details: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Enter the scores of a stage on a split in `scores.json`, beside those of the other stages."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    more = details or {}
    table.setdefault(stage, {})[split] = {
        kind: remove_nan({**score._asdict(), **more.get(kind, {})})
        for kind, score in scores.items()
    }
    write_json(path, table)


def remove_nan(values: Any) -> Any:
    """Replace NaN (a class that neither truth nor masks have) by null, which JSON knows."""
    if isinstance(values, dict):
        return {key: remove_nan(value) for key, value in values.items()}
    return None if isinstance(values, float) and math.isnan(values) else values


def show_scores(path: Path) -> None:
    """Print `scores.json`: the totals of each kind of mask, then the IoU per class of each stage's
    last kind.
    """
    if not path.is_file():
        return
    rows = [
        (f"{stage}, {split}", kind, score)
        for stage, splits in json.loads(path.read_text(encoding="utf-8")).items()
        for split, kinds in splits.items()
        for kind, score in kinds.items()
    ]
    totals = Table("stage", "masks", title=f"scores, {path}")
    for column in TOTALS:
        totals.add_column(column, justify="right")
    for where, kind, score in rows:
        totals.add_row(where, kind, *(write_percent(score.get(key)) for key in TOTALS.values()))
    Console().print(totals)

    last = {where: score["iou"] for where, _, score in rows}
    classes = Table("class", *last, title="IoU per class")
    for name in dict.fromkeys(name for ious in last.values() for name in ious):
        classes.add_row(name, *(write_percent(ious.get(name)) for ious in last.values()))
    Console().print(classes)

    where, kind, score = rows[-1]
    if score.get("worst_images"):
        worst = ", ".join(
            f"{name} {write_percent(miou)}"
            for name, miou in list(score["worst_images"].items())[:5]
        )
        Console().print(f"worst images of {where}, {kind} (mIoU): {worst}", highlight=False)


def write_percent(value: float | None) -> str:
    """Write a score in percent; `none` is what nothing defines."""
    return "none" if value is None else f"{100 * value:.1f}"
