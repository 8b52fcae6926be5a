"""The table of all scores, `scores.json`: entered stage by stage, printed at the end of a run.

It holds, by stage, split and kind of mask (`scores["network"]["val"]["network"]`): the fields of
`SegmentationMetrics`; `mean_boundary_iou`, over the classes of the truth, and `boundary_iou` by
class; `confusion`, pixels by truth (rows: background, classes) and prediction (columns: the same,
then what is no class); `worst_images`, the names and mIoU of the worst. What nothing defines is
null. `f1` is the mean over the classes of the truth, and one without any hit counts as 0 (the
released code leaves it out, which raises the mean). A training with `val_every` adds the split
`<split> during training` with the kinds `last, step N` and `best, step M` (of prompts: for each
`power P`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fmawsss.files.journals import Line, read_lines
from fmawsss.files.json_files import many_objects, read_json, write_json
from fmawsss.files.locks import wait_lock
from fmawsss.files.tallies import detail_tally, remove_nan, score_tally, tally_lines
from fmawsss.files.texts import name_first
from fmawsss.metrics import SegmentationMetrics
from stages.jobs.tables import open_console

logger = logging.getLogger(__name__)

REMEDY = "remove it and run the same command again, which enters the scores of its stages anew"
TOTALS = {
    "mIoU": "miou",
    "accuracy": "accuracy",
    "precision": "mean_precision",
    "recall": "mean_recall",
    "boundary IoU": "mean_boundary_iou",
}


@many_objects()
def enter_scores(
    path: Path,
    stage: str,
    product: Path,
    parts: Mapping[str, Sequence[str]],
    classes: Sequence[str],
) -> dict[str, dict[str, SegmentationMetrics]]:
    """Score a product on its splits (`parts`, their image names); enter the scores in the table."""
    known, scores = read_lines(product), {}
    for split, names in parts.items():
        labelled: Counter[int] = Counter()
        lines = count_labels((known[name] for name in names if name in known), labelled)
        tally = tally_lines(lines, 1 + len(classes))
        scores[split] = score_tally(tally, classes)
        if scores[split]:
            details = detail_tally(tally, classes)
            write_scores(path, stage, split, scores[split], details)
            (*_, last) = details.values()
            report_unscored(f"{stage}, {split}", labelled, last["confusion"], classes)
    return scores


def count_labels(lines: Iterable[Line], labelled: Counter[int]) -> Iterator[Line]:
    """Count, of lines that pass by, the labels of images with a truth."""
    for line in lines:
        if line["confusion"]:
            labelled.update(line.get("labels") or ())
        yield line


def report_unscored(
    where: str,
    labelled: Mapping[int, int],
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> None:
    """Warn of classes that images are labelled with, but none of their truths shows."""
    shown = [sum(row) > 0 for row in confusion[1:]]
    lost = [f"{classes[i]} ({labelled[i]} images)" for i in sorted(labelled) if not shown[i]]
    if lost and any(shown):  # of truths without any class is told before
        logger.warning(
            "%s: no mask shows what images are labelled with, %s: no score counts these classes; "
            "correct labels or masks, `python infer.py task=check` compares them",
            where,
            name_first(lost),
        )


def write_scores(
    path: Path,
    stage: str,
    split: str,
    scores: Mapping[str, SegmentationMetrics],
    details: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Enter the scores of a stage on a split in the table, beside those of the other stages."""
    more = details or {}
    entered = {
        kind: remove_nan({**score._asdict(), **more.get(kind, {})})
        for kind, score in scores.items()
    }
    with wait_lock(path):  # other stages may enter theirs
        table = read_table(path) if path.is_file() else {}
        table.setdefault(stage, {})[split] = entered
        write_json(path, table)


def read_table(path: Path) -> dict[str, Any]:
    """Read the table; raise ValueError naming the file when it is broken."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder where the table of scores belongs: {REMEDY}")
    table: dict[str, Any] = read_json(path, REMEDY)
    if not isinstance(table, dict):
        raise ValueError(f"{path} is no table of scores: {REMEDY}")
    return table


def print_scores(path: Path) -> None:
    """Print the totals of each kind of mask, then the IoU per class of each stage's last kind."""
    if not path.is_file():
        return
    table = read_table(path)
    rows = [
        (f"{stage}, {split}", kind, score)
        for stage, splits in table.items()
        for split, kinds in splits.items()
        for kind, score in kinds.items()
    ]

    # Totals of each kind of mask
    totals = Table("stage", "masks", title=f"scores, {path}")
    for column in TOTALS:
        totals.add_column(column, justify="right")
    for where, kind, score in rows:
        totals.add_row(where, kind, *(write_percent(score.get(key)) for key in TOTALS.values()))
    console = open_console()
    console.print(totals)

    # Classes of the last kind of each stage
    last = {where: score["iou"] for where, _, score in rows}
    classes = Table("class", *last, title="IoU per class")
    for name in dict.fromkeys(name for ious in last.values() for name in ious):
        classes.add_row(name, *(write_percent(ious.get(name)) for ious in last.values()))
    console.print(classes)
    show_worst(console, *rows[-1])


def show_worst(console: Console, where: str, kind: str, score: Mapping[str, Any]) -> None:
    """Print the five worst images, where they are known."""
    if score.get("worst_images"):
        images = list(score["worst_images"].items())[:5]
        worst = ", ".join(f"{name} {write_percent(miou)}" for name, miou in images)
        console.print(f"worst images of {where}, {kind} (mIoU): {worst}", highlight=False)


def write_percent(value: float | None) -> str:
    """Write a number of 0…1 in percent; `none` is what nothing defines."""
    return "none" if value is None else f"{100 * value:.1f}"
