"""Score masks against ground truth where there is any: counted image by image, so that a killed run loses nothing.

`scores.json` holds, by stage, split and kind of mask (`scores["network"]["val"]["network"]`): the fields of
`SegmentationScores`; `mean_boundary_iou`, over the classes of the truth, and `boundary_iou` by class; `confusion`,
pixels by truth (rows: background, classes) and prediction (columns: the same, then what is no class); `worst_images`,
the names and mIoU of the worst. What nothing defines is null. A network trained with `val_every` adds the split
`<split> during training` with the kinds `last, step N` and `best, step M`, without the images' details.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Int64
from rich.console import Console
from rich.table import Table

from callbacks.image_facts import describe_prediction, describe_record
from datamodules.sample import ImageRecord
from fmawsss.agreement import measure_agreement
from fmawsss.boundaries import count_boundaries
from fmawsss.metrics import SegmentationScores, count_confusion, summarise_confusion
from fmawsss.storage import write_json

logger = logging.getLogger(__name__)

TOTALS = {"mIoU": "miou", "accuracy": "accuracy", "precision": "mean_precision", "recall": "mean_recall"}
TOTALS |= {"boundary IoU": "mean_boundary_iou"}
WORST = 10  # images that are named


class ScoreJournal(L.Callback):
    """Append a line per image: its confusion by kind of mask (`cam`, `caa`, `sams`, `network`), and other facts.

    The journal lies beside the product, one file per process; a broken last line (a killed run) is not counted, and its
    image is done again. Nothing is ever chosen by these numbers.
    """

    def __init__(self, product: str | Path, shard: int = 1) -> None:
        self.product = Path(product)
        self.shard = shard
        self.known = {line["name"] for line in read_journal(self.product)}
        self.records: dict[str, ImageRecord] = {}

    def has(self, name: str) -> bool:
        """Say whether the image was counted before."""
        return name in self.known

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Learn where the images lie."""
        datamodule = trainer.datamodule
        self.records = {record.name: record for record in datamodule.read_records(datamodule.predict_split)}

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch."""
        classes = len(pl_module.classes) + 1
        truths = batch.truths if batch.truths is not None else [None] * len(outputs)
        path = self.product.with_name(f"{self.product.name}.scores.{self.shard}-{trainer.global_rank}.jsonl")
        with path.open("a", encoding="utf-8") as journal:
            for prediction, truth in zip(outputs, truths, strict=True):
                masks = prediction.masks() if truth is not None else {}
                counts = {
                    "confusion": {kind: list_counts(count_confusion(m, truth, classes)) for kind, m in masks.items()},
                    "boundary": {kind: list_counts(count_boundaries(m, truth, classes)) for kind, m in masks.items()},
                    "agreement": find_agreement(prediction),
                }
                journal.write(
                    "\n" + json.dumps({"name": prediction.name, **counts, **self._describe(prediction)}) + "\n"
                )

    def _describe(self, prediction: Any) -> dict[str, Any]:
        record = self.records.get(prediction.name)
        known = {} if record is None else describe_record(record)
        return {**known, **describe_prediction(prediction)}


def find_agreement(prediction: Any) -> float | None:
    """Measure how well superpixel seeds agree with the seeds they came from; None where there are none."""
    seeds = getattr(prediction, "seeds", {})
    if not {"sams", "caa"} <= set(seeds):
        return None
    return measure_agreement(seeds["sams"].labels, seeds["caa"].labels, prediction.classes)


def list_counts(confusion: torch.Tensor) -> list[list[int]]:
    """List the entries of a sparse matrix as (row, column, pixels)."""
    return [[*index, int(confusion[tuple(index)])] for index in confusion.nonzero().tolist()]


def read_journal(product: Path) -> list[dict[str, Any]]:
    """Read every complete line of the journals beside a product."""
    lines = []
    for path in list_journals(product):
        for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                logger.warning("%s: a line was cut off; its image counts as not done", path)
    return lines


def list_journals(product: Path) -> list[Path]:
    """List the journals beside a product, one per process."""
    return sorted(product.parent.glob(f"{product.name}.scores.*.jsonl"))


def read_scores(product: Path, names: Iterable[str], classes: Sequence[str]) -> dict[str, SegmentationScores]:
    """Sum the journal over the images of a split: one confusion matrix, and its scores, per kind of mask."""
    rows = ("background", *classes)
    totals = sum_counts(product, names, "confusion", (len(rows), len(rows) + 1))
    return {kind: summarise_confusion(sum(images.values()), rows) for kind, images in totals.items()}


def read_details(product: Path, names: Iterable[str], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read what else the journal tells of a split, per kind of mask: boundary IoU, confusion matrix, worst images."""
    rows, names = ("background", *classes), list(names)
    confusions = sum_counts(product, names, "confusion", (len(rows), len(rows) + 1))
    boundaries = sum_counts(product, names, "boundary", (len(rows), 2))
    details = {}
    for kind, images in confusions.items():
        total = sum(images.values())
        shared, either = sum(boundaries.get(kind, {}).values(), torch.zeros(len(rows), 2)).unbind(1)
        iou = shared / either  # NaN where neither has a boundary
        mious = {name: summarise_confusion(counts, rows).miou for name, counts in images.items()}
        worst = sorted((name for name in mious if mious[name] == mious[name]), key=mious.__getitem__)[:WORST]
        details[kind] = {
            "mean_boundary_iou": iou[total.sum(1) > 0].mean().item(),
            "boundary_iou": dict(zip(rows, iou.tolist(), strict=True)),
            "confusion": total.tolist(),
            "worst_images": {name: mious[name] for name in worst},
        }
    return details


def sum_counts(
    product: Path, names: Iterable[str], what: str, shape: tuple[int, int]
) -> dict[str, dict[str, torch.Tensor]]:
    """Read one kind of count of the journal, by kind of mask and image; the last line of an image holds."""
    entries = {line["name"]: line.get(what, {}) for line in read_journal(product)}
    counts: dict[str, dict[str, torch.Tensor]] = {}
    for name in names:
        for kind, listed in entries.get(name, {}).items():
            matrix = torch.zeros(shape, dtype=torch.int64)
            for row, column, pixels in listed:
                matrix[row, column] = pixels
            counts.setdefault(kind, {})[name] = matrix
    return counts


def sum_confusions(
    entries: Iterable[Mapping[str, Sequence[Sequence[int]]]], classes: int
) -> dict[str, Int64[torch.Tensor, "R R+1"]]:
    """Sum the sparse confusions of images, by kind of mask; `classes` includes the background."""
    totals: dict[str, torch.Tensor] = {}
    for entry in entries:
        for kind, counts in entry.items():
            total = totals.setdefault(kind, torch.zeros(classes, classes + 1, dtype=torch.int64))
            for truth, prediction, pixels in counts:
                total[truth, prediction] += pixels
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
        kind: remove_nan({**score._asdict(), **more.get(kind, {})}) for kind, score in scores.items()
    }
    write_json(path, table)


def remove_nan(values: Any) -> Any:
    """Replace NaN (a class that neither truth nor masks have) by null, which JSON knows."""
    if isinstance(values, dict):
        return {key: remove_nan(value) for key, value in values.items()}
    return None if isinstance(values, float) and math.isnan(values) else values


def show_scores(path: Path) -> None:
    """Print `scores.json`: the totals of each kind of mask, then the IoU per class of each stage's last kind."""
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
        worst = ", ".join(f"{name} {write_percent(miou)}" for name, miou in list(score["worst_images"].items())[:5])
        Console().print(f"worst images of {where}, {kind} (mIoU): {worst}", highlight=False)


def write_percent(value: float | None) -> str:
    """Write a score in percent; `none` is what nothing defines."""
    return "none" if value is None else f"{100 * value:.1f}"
