"""Choose which images of a split are used, and in which company; check first that their files are
there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from datamodules.file_checks import check_archives, check_images, check_masks
from datamodules.images import list_stems
from fmawsss.files.images import read_size
from fmawsss.files.texts import name_first
from fmawsss.records import ImageRecord
from fmawsss.resizing import Resize

log = logging.getLogger(__name__)

Splits = str | Sequence[str] | None
Records = list[ImageRecord]
CHECKS = {".png": check_masks, ".npz": check_archives}
SHOT_STREAM = 2  # of the seed; `sampler` holds the other streams


def name_splits(splits: Splits) -> list[str]:
    """List the names of splits given as one name, as names joined by commas, or as a list.

    >>> name_splits("train, val"), name_splits(["train"]), name_splits(None)
    (['train', 'val'], ['train'], [])
    """
    if splits is None:
        return []
    names = splits.split(",") if isinstance(splits, str) else splits
    return [name.strip() for name in names]


def check_records(records: Records, split: str, labelled: bool) -> Records:
    """Return the records of a split; raises when there are none, or when images or labels are
    missing or cut off.
    """
    if not records:
        raise ValueError(
            f"split {split!r} is empty; check its list of images, or choose another split"
        )
    missing = [record.image for record in records if not record.image.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} images of split {split!r} do not exist, first "
            f"{missing[0]}; "
            "unpack the data set again, or check dataset.root"
        )
    check_images(records)
    unknown = [record.name for record in records if labelled and record.labels is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(records)} images of split {split!r} have no known labels, "
            f"first {unknown[0]!r}; "
            "choose another dataset/labels, add the images to its file, or make the masks that "
            "labels are taken from "
            "(`python infer.py task=prepare`)"
        )
    return records


def require_truths(records: Records, split: Splits) -> None:
    """Raise FileNotFoundError unless every image has a ground-truth mask, ValueError for one that
    does not fit.
    """
    missing = [record.name for record in records if record.truth is None]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} images of split {split!r} have no ground-truth "
            "mask, "
            f"first {missing[0]!r}; check dataset.masks, or choose a split that has masks"
        )
    check_truths(records)


def check_truths(records: Records) -> None:
    """Raise ValueError for a ground-truth mask that does not fit its image."""
    known = [(record, record.truth) for record in records if record.truth is not None]
    check_masks([record for record, _ in known], [truth for _, truth in known])


def count_truths(records: Records) -> None:
    """Say how many images have no ground-truth mask, and so no score."""
    without = [record.name for record in records if record.truth is None]
    if without:
        log.warning(
            "%d of %d images have no ground truth: %s",
            len(without),
            len(records),
            name_first(without),
        )


def require_files(records: Records, folder: Path, suffix: str, what: str, remedy: str) -> None:
    """Raise FileNotFoundError unless a folder holds a file for every image, ValueError for one that
    is broken.
    """
    present = list_stems(folder, suffix)
    missing = [record.name for record in records if record.name not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} {what} are missing in {folder}, first "
            f"{missing[0]}{suffix}; {remedy}"
        )
    CHECKS[suffix](records, [folder / f"{record.name}{suffix}" for record in records])


def keep_labelled(records: Records) -> Records:
    """Leave out images that show none of the classes, and say how many."""
    without = [record.name for record in records if record.labels == ()]
    if without:
        log.warning(
            "%d images without any label are left out of training: %s",
            len(without),
            name_first(without),
        )
    kept = [record for record in records if record.labels != ()]
    if not kept:
        raise ValueError(
            "no image of the training split has a label; check dataset/labels and dataset.classes"
        )
    return kept


def choose_shots(records: Records, shots: int, classes: Sequence[str], seed: int) -> Records:
    """Choose `shots` images per class, no image twice, the same for the same seed; the order stays."""
    if shots < 1:
        raise ValueError(
            f"dataset.shots={shots}: expected at least one image per class, or null for all images"
        )
    order = np.random.default_rng([seed, SHOT_STREAM]).permutation(len(records)).tolist()
    chosen: set[int] = set()
    for index, name in enumerate(classes):
        free = [i for i in order if i not in chosen and index in (records[i].labels or ())]
        if len(free) < shots:
            log.warning("class %s: %d images instead of %d shots", name, len(free), shots)
        chosen.update(free[:shots])
    return [records[index] for index in sorted(chosen)]


def spread_choice(records: Records, count: int | None) -> Records:
    """Choose `count` records at even distances; None, or a count that is not smaller than theirs,
    takes all.

    >>> spread_choice(list(range(10)), 4)
    [0, 2, 5, 7]
    """
    if count is None or count >= len(records):
        return records
    return [records[index * len(records) // count] for index in range(count)]


def group_by_size(records: Records, resize: Resize, batch_size: int) -> list[Records]:
    """Split images into batches of one network size, so that none needs padding; singly, they keep
    their order.
    """
    if batch_size == 1:
        return [[record] for record in records]
    groups: dict[tuple[int, int], Records] = {}
    for record in records:
        groups.setdefault(resize.find_size(read_size(record.image)), []).append(record)
    return [
        group[first : first + batch_size]
        for group in groups.values()
        for first in range(0, len(group), batch_size)
    ]


def digest_records(records: Records) -> dict[str, int | str]:
    """Count images and digest their names, sizes in bytes and labels; files are not read."""
    lines = "\n".join(
        f"{record.name}\t{record.image.stat().st_size}\t{record.labels}" for record in records
    )
    return {"images": len(records), "sha256": sha256(lines.encode()).hexdigest()[:16]}
