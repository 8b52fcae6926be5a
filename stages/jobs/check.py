"""Verify a data set on disk, every image and mask of its splits: `python infer.py task=check
dataset=voc`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from datamodules.base import SegmentationDataModule
from datamodules.batches import check_mask
from datamodules.choosing import Records, Splits, name_splits
from datamodules.labels import LabelFaults, LabelsFromMasks
from datamodules.loading import find_start_context
from fmawsss.files.images import try_image
from fmawsss.files.storage import read_mask
from fmawsss.files.texts import name_first
from fmawsss.records import ImageRecord
from stages.jobs.tables import show_table

log = logging.getLogger(__name__)

COLUMNS = (
    "split",
    "images",
    "expected",
    "unreadable",
    "masks",
    "wrong masks",
    "without label",
    "classes unseen",
)
CHUNK = 64  # images that a process takes at once


@dataclass
class SplitReport:
    """What is known of one split: counts, one message per broken file, and what stops the split as
    a whole.

    The labels and masks of a `withheld` split are not public.
    """

    split: str
    expected: int | None
    withheld: bool = False
    records: Records = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    unlabelled: list[str] | None = None
    unseen: list[str] | None = None
    lost: list[str] = field(default_factory=list)

    def list_counts(self) -> list[object]:
        """List the cells of the split's row."""
        found = sum(record.truth is not None for record in self.records)
        unlabelled, unseen = (
            None if names is None else len(names) for names in (self.unlabelled, self.unseen)
        )
        counts = [len(self.images), found, len(self.masks), unlabelled, unseen]
        return [self.split, len(self.records), self.expected, *counts]

    def list_problems(self, prepare: str) -> Iterator[str]:
        """Say what must be repaired, and how."""
        yield from self.broken
        if self.records and self.expected not in (None, len(self.records)):
            yield f"{len(self.records)} images instead of {self.expected}: restore the list, or run `{prepare}`"
        yield from self.images
        yield from self.masks

    def list_remarks(self, prepare: str) -> Iterator[str]:
        """Say what is no mistake, but good to know."""
        bare = [record.name for record in self.records if record.truth is None]
        if self.withheld and len(bare) == len(self.records):
            yield "its masks and labels are not public: predictions are scored by the data set's own server"
        elif bare:
            yield f"{len(bare)} images have no mask and no score ({name_first(bare)}); official masks: `{prepare}`"
        if self.unlabelled:
            yield f"{len(self.unlabelled)} images show no class and train no prompts ({name_first(self.unlabelled)})"
        if self.lost:
            yield f"labels of {len(self.lost)} images that are not there ({name_first(self.lost)}): correct the names"
        if self.unseen:
            yield f"no image shows {name_first(self.unseen)}: correct the labels, or take it out of dataset.classes"


def check_dataset(
    data: SegmentationDataModule,
    splits: Splits,
    expected: Mapping[str, int],
    withheld: Sequence[str],
    prepare: str,
    workers: int | None,
    shown: int,
) -> None:
    """Check splits, print a table and what to do; exits with status 1 when something is broken.

    `expected` holds published numbers of images, `withheld` names splits without public labels and
    masks; `prepare` is the command that makes the data set ready; `workers` processes read files
    (0: this one, None: one per core); `shown` problems of a split are written out.
    """
    reports = [
        SplitReport(split, expected.get(split), split in withheld) for split in name_splits(splits)
    ]
    for report in reports:
        check_split(data, report, prepare, workers)
    show_table("data set, checked", COLUMNS, (report.list_counts() for report in reports))
    problems = 0
    for report in reports:
        for remark in report.list_remarks(prepare):
            log.info("%s: %s", report.split, remark)
        found = list(report.list_problems(prepare))
        for problem in found[:shown]:
            log.error("%s: %s", report.split, problem)
        if len(found) > shown:
            log.error(
                "%s: and %d problems more (job.shown=%d shows them)",
                report.split,
                len(found) - shown,
                len(found),
            )
        problems += len(found)
    if problems:
        raise SystemExit(1)
    log.info("nothing to repair")


def check_split(
    data: SegmentationDataModule, report: SplitReport, prepare: str, workers: int | None
) -> None:
    """Check the files and the labels of one split."""
    try:
        report.records = replace(data, labelled=False).read_split(report.split)
        if not report.records:
            raise ValueError("the split is empty; check its list of images")
    except (FileNotFoundError, ValueError) as error:
        report.broken.append(str(error))
        return

    for image, mask in check_files(report.records, len(data.classes), workers):
        report.images += [image] if image else []
        report.masks += [mask] if mask else []
    if data.labels is not None and not report.withheld:
        check_labels(data, report, prepare)


def check_labels(data: SegmentationDataModule, report: SplitReport, prepare: str) -> None:
    """Read the labels of a split as training would, and enter what is wrong with them."""
    try:
        labelled = replace(data, labelled=True)
        records = labelled.read_split(report.split)
        report.lost = labelled.lost_labels
    except LabelFaults as error:
        report.broken += [f"labels: {fault}" for fault in error.faults]
        return
    except (FileNotFoundError, ValueError) as error:
        report.broken += [] if str(error) in report.masks else [f"labels: {error}"]
        return

    # images whose labels nobody knows
    unknown = [record.name for record in records if record.labels is None]
    if unknown:
        made = isinstance(data.labels, LabelsFromMasks)
        remedy = f"make the masks with `{prepare}`" if made else "add them"
        report.broken.append(
            f"{len(unknown)} images have no known labels ({name_first(unknown)}): {remedy}, "
            "or choose another dataset/labels"
        )
    if len(unknown) == len(records):
        return

    # what is no mistake, but good to know
    seen = {label for record in records for label in record.labels or ()}
    report.unlabelled = [record.name for record in records if record.labels == ()]
    report.unseen = [name for index, name in enumerate(data.classes) if index not in seen]


def check_files(records: Records, classes: int, workers: int | None) -> list[tuple[str, str]]:
    """Check each image and its mask in several processes; an empty message stands for a good file."""
    check = partial(check_record, classes=classes)
    if workers == 0:
        return [check(record) for record in records]
    with ProcessPoolExecutor(workers, mp_context=find_start_context(None)) as pool:
        return list(pool.map(check, records, chunksize=CHUNK))


def check_record(record: ImageRecord, classes: int) -> tuple[str, str]:
    """Return what is wrong with an image and with its mask, empty for nothing."""
    try:
        size = try_image(record.image)
    except (FileNotFoundError, ValueError) as error:
        return str(error), ""
    return "", "" if record.truth is None else find_mask_fault(record.truth, size, classes)


def find_mask_fault(path: Path, size: tuple[int, int], classes: int) -> str:
    """Return what is wrong with a mask; without classes every value is right."""
    try:
        check_mask(read_mask(path), path, size, classes or 255)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return ""
