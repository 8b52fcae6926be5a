"""Verify every image, mask and label of a data set: `python infer.py task=check dataset=voc`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import TypeAlias

from datamodules.base import SegmentationDataModule
from datamodules.batches import check_mask
from datamodules.choosing import Records, Splits, name_splits
from datamodules.images import name_alike
from datamodules.labels import LabelFaults, Labels, LabelsFromMasks
from datamodules.loading import find_start_context
from datamodules.shown import list_shown
from fmawsss.files.images import try_image
from fmawsss.files.png import read_mask
from fmawsss.files.texts import name_first
from fmawsss.metrics import IGNORE
from fmawsss.records import ImageRecord
from fmawsss.resizing import Size
from stages.jobs.class_names import show_classes
from stages.jobs.compare import compare_labels
from stages.jobs.tables import show_table

logger = logging.getLogger(__name__)

REPORT_COLUMNS = (
    "split",
    "images",
    "expected",
    "unreadable",
    "masks",
    "wrong masks",
    "without label",
    "classes unseen",
)
IMAGES_AT_ONCE = 64  # images that a process takes at once
# Fault of an image, of its mask, the classes that this shows, and the size of the image
Found: TypeAlias = tuple[str, str, Labels | None, Size | None]


@dataclass
class SplitReport:
    """What is known of one split: its images, and a message for everything that is wrong.

    `broken` holds what stops the split as a whole, `images` and `masks` faults of single files;
    `found` holds the classes that whole masks show, `apart` says where labels differ from them;
    `unlabelled`, `unseen` and `lost` are names of images, classes, and labels without an image;
    `labelled` are the records with their labels, `sizes` those of images that can be read. The
    labels and masks of a `withheld` split are not public.
    """

    split: str
    expected: int | None
    withheld: bool = False
    records: Records = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    found: dict[str, Labels] = field(default_factory=dict)
    apart: list[str] = field(default_factory=list)
    unlabelled: list[str] | None = None
    unseen: list[str] | None = None
    lost: list[str] = field(default_factory=list)
    labelled: Records = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)

    def list_counts(self) -> list[object]:
        """List the cells of the split's row."""
        masks = sum(record.truth is not None for record in self.records)
        unlabelled = None if self.unlabelled is None else len(self.unlabelled)
        unseen = None if self.unseen is None else len(self.unseen)
        faults = [len(self.images), masks, len(self.masks), unlabelled, unseen]
        return [self.split, len(self.records), self.expected, *faults]

    def list_problems(self, prepare: str) -> Iterator[str]:
        """Say what must be repaired, and how."""
        yield from self.broken
        count = len(self.records)
        if self.records and self.expected not in (None, count):
            yield f"{count} images instead of {self.expected}: restore the list, or run `{prepare}`"
        yield from self.images
        yield from self.masks

    def list_remarks(self, prepare: str) -> Iterator[str]:
        """Say what is no mistake, but good to know."""
        # sizes
        if len(set(self.sizes)) > 1:
            smallest, largest = min(self.sizes, key=prod), max(self.sizes, key=prod)
            yield f"images have {write_pixels(smallest)} to {write_pixels(largest)} pixels"

        # masks
        bare = [record.name for record in self.records if record.truth is None]
        if self.withheld and len(bare) == len(self.records):
            yield (
                "its masks and labels are not public: predictions are scored by the data set's own "
                "server"
            )
        elif bare:
            yield (
                f"{len(bare)} images have no mask and no score ({name_first(bare)}); "
                f"{name_remedy(prepare, 'official masks:')}"
            )

        masked = len(self.records) - len(bare)
        if masked and len(self.found) == masked and not any(self.found.values()):
            yield (
                f"no mask of {masked} shows any class, they hold 0 and 255 only: 255 is "
                "ignored; write 1 for the first class, 2 for the second"
            )
        yield from self.apart

        # labels
        if self.unlabelled:
            names = name_first(self.unlabelled)
            yield f"{len(self.unlabelled)} images show no class and train no prompts ({names})"
        if self.lost:
            count = len(self.lost)
            names = name_first(self.lost)
            yield f"labels of {count} images that are not there ({names}): correct the names"
        if self.unseen:
            yield (
                f"no image shows {name_first(self.unseen)}: correct the labels, or take it out of "
                "dataset.classes"
            )


def check_dataset(
    data: SegmentationDataModule,
    splits: Splits,
    expected: Mapping[str, int] | None,
    withheld: Sequence[str] | None,
    prepare: str,
    workers: int | None,
    shown: int,
) -> None:
    """Check splits, print a table and what to do; exits with status 1 when something is broken.

    `expected` holds published numbers of images, `withheld` names splits without public labels and
    masks; `prepare` is the command that makes the data set ready; `workers` processes read files
    (0: this one, None: one per core); `shown` problems of a split are written out.
    """
    # look at all of them first
    reports = [
        SplitReport(split, (expected or {}).get(split), split in (withheld or ()))
        for split in name_splits(splits)
    ]
    for report in reports:
        check_split(data, report, prepare, workers)
    show_table("data set, checked", REPORT_COLUMNS, (report.list_counts() for report in reports))
    labelled = {report.split: report.labelled for report in reports if report.labelled}
    show_classes(data.classes, labelled)

    # then say what to do
    problems = sum(show_report(report, prepare, shown) for report in reports)
    if problems:
        raise SystemExit(1)
    apart = any(report.apart for report in reports)
    logger.info("no file to repair; see labels and masks above" if apart else "nothing to repair")


def show_report(report: SplitReport, prepare: str, shown: int) -> int:
    """Print the remarks and the first problems of a split; return how many problems there are."""
    for remark in report.list_remarks(prepare):
        logger.info("%s: %s", report.split, remark)
    problems = list(report.list_problems(prepare))
    for problem in problems[:shown]:
        logger.error("%s: %s", report.split, problem)

    # and the others
    if len(problems) > shown:
        more = len(problems) - shown
        message = "%s: and %d problems more (job.shown=%d shows them)"
        logger.error(message, report.split, more, len(problems))
    return len(problems)


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

    # its files, then its labels
    faults = find_faults(report.records, len(data.classes), workers)
    for record, (image, mask, found, size) in zip(report.records, faults, strict=True):
        report.sizes += [size] if size else []
        report.images += [image] if image else []
        report.masks += [mask] if mask else []
        if found is not None:
            report.found[record.name] = found
    report.masks += data.find_faults(report.split)
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
        remedy = name_remedy(prepare, "make the masks with") if made else "add them"
        report.broken.append(
            f"{len(unknown)} images have no known labels ({name_first(unknown)}): {remedy}, "
            "or choose another dataset/labels"
        )
    if len(unknown) == len(records):
        return

    # what is no mistake, but good to know
    report.labelled = records
    seen = {label for record in records for label in record.labels or ()}
    report.unlabelled = [record.name for record in records if record.labels == ()]
    report.unseen = [name for index, name in enumerate(data.classes) if index not in seen]
    if any(report.found.values()):
        report.apart = list(compare_labels(records, report.found, data.classes))


def name_remedy(prepare: str, words: str) -> str:
    """Say how to come by masks: those of a folder are drawn by its owner."""
    if prepare.endswith("dataset=folder"):
        return "dataset.masks=DIR names a folder of PNGs that are named like the images"
    return f"{words} `{prepare}`"


def find_faults(records: Records, classes: int, workers: int | None) -> list[Found]:
    """Find what is wrong with each image and its mask, in several processes."""
    find = partial(find_record_faults, classes=classes)
    if workers == 0:
        return [find(record) for record in records]
    with ProcessPoolExecutor(workers, mp_context=find_start_context(None)) as pool:
        return list(pool.map(find, records, chunksize=IMAGES_AT_ONCE))


def find_record_faults(record: ImageRecord, classes: int) -> Found:
    """Find what is wrong with an image and with its mask, and the classes that this shows.

    A text is empty for nothing; of a mask that is missing or broken no classes are known, of a
    broken image no size.
    """
    try:
        size = try_image(record.image)
    except FileNotFoundError as error:
        return f"{error}{name_alike(record.image)}", "", None, None
    except ValueError as error:
        return str(error), "", None, None
    if record.truth is None:
        return "", "", None, size
    try:  # without classes every value of a mask is right
        mask = check_mask(read_mask(record.truth), record.truth, size, classes or IGNORE)
    except (FileNotFoundError, ValueError) as error:
        return "", str(error), None, size
    return "", "", list_shown(mask), size


def write_pixels(size: Size) -> str:
    """Write a size as people do, the width first."""
    return f"{size[1]}x{size[0]}"
