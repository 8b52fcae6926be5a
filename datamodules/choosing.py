"""Check the files of a split, choose which of its images are used, and in which company."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from datamodules.file_checks import check_archives, check_images, check_masks, measure_images
from datamodules.images import find_missing, list_stems, name_alike
from fmawsss.files.images import read_size
from fmawsss.files.json_files import many_objects
from fmawsss.files.listing import current, stamp_files
from fmawsss.files.storage import read_superpixels
from fmawsss.files.texts import name_first
from fmawsss.records import ImageRecord
from fmawsss.resizing import Resize, Size, fit_longest
from fmawsss.superpixels import Superpixels

logger = logging.getLogger(__name__)

Splits = str | Sequence[str] | None
Records = list[ImageRecord]
MAKE_SUPERPIXELS = "run `python infer.py task=superpixels` for this data set and split"
READ_WHOLE = 100  # files of superpixels, before anything is made of them
CHECKS = {".png": check_masks, ".npz": check_archives}
SHOT_STREAM = 2  # of the seed; `sampler` holds the other streams


def name_splits(splits: Splits) -> list[str]:
    """List the names of splits given as one name, as names joined by commas, or as a list.

    >>> name_splits("train, val"), name_splits(["train"]), name_splits(None)
    (['train', 'val'], ['train'], [])

    Raises ValueError for a name that is given twice.
    """
    if splits is None:
        return []
    given = splits.split(",") if isinstance(splits, str) else splits
    names = [name.strip() for name in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"split={','.join(names)} has {twice[0]} twice: name each split once")
    return names


def join_splits(parts: Iterable[Splits]) -> list[str]:
    """List the names of several splits, each once.

    >>> join_splits(["train", None, ["val", "train"]])
    ['train', 'val']
    """
    return list(dict.fromkeys(name for part in parts for name in name_splits(part)))


@many_objects()
def check_records(records: Records, split: str, labelled: bool) -> None:
    """Check that a split has images, that their files are whole, and that labels are known.

    Raises:
        FileNotFoundError: for images that do not exist.
        ValueError: for an empty split, images that are cut off, and unknown labels if `labelled`.
    """
    if not records:
        raise ValueError(
            f"split {split!r} is empty; check its list of images, or choose another split"
        )

    # the images
    missing = find_missing([record.image_file for record in records])
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} images of split {split!r} do not exist, first "
            f"{missing[0]}; unpack the data set again, or check dataset.root"
            + name_alike(missing[0])
        )
    check_images(records)

    # their labels
    unknown = [record.name for record in records if labelled and record.labels is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(records)} images of split {split!r} have no known labels, "
            f"first {unknown[0]!r}; choose another dataset/labels, add the images to its file, or "
            "make the masks that labels are taken from (`python infer.py task=prepare`)"
        )


def check_all_truths(records: Records, split: Splits) -> None:
    """Check that every image has a ground-truth mask that fits it.

    Raises FileNotFoundError when one has none, and ValueError for a mask that does not fit.
    """
    missing = [record.name for record in records if record.truth_file is None]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} images of split {split!r} have no ground-truth "
            f"mask, first {missing[0]!r}; check dataset.masks, or choose a split that has masks"
        )
    check_truths(records)


def check_truths(records: Records) -> None:
    """Raise ValueError for a ground-truth mask that does not fit its image; asked once in a run."""
    known = [(record, record.truth_file) for record in records if record.truth_file is not None]
    masks = [truth for _, truth in known]
    check = partial(check_masks, [record for record, _ in known], masks)
    files = sha256()  # their names would be held as long as the run
    for record, truth in known:
        files.update(os.fsencode(f"{record.image_file}\0{truth}\0"))
    current().read_once(("truths", files.digest()), check)


def report_missing_truths(records: Sequence[ImageRecord]) -> None:
    """Say how many images have no ground-truth mask, and so no scores."""
    without = [record.name for record in records if record.truth_file is None]
    if without:
        counts = len(without), len(records)
        warn("{} of {} images have no ground truth: {}".format(*counts, name_first(without)))


@cache
def warn(message: str) -> None:
    """Warn of something once in a run."""
    logger.warning("%s", message)


def check_products(records: Records, folder: Path, suffix: str, what: str, remedy: str) -> None:
    """Check that a folder holds a file for every image, as an earlier stage makes them.

    Raises FileNotFoundError when one is missing, and ValueError for one that is broken.
    """
    present = list_stems(folder, suffix)
    missing = [record.name for record in records if record.name not in present]
    if missing:
        first = folder / f"{missing[0]}{suffix}"
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} {what} are missing in {folder}, first "
            f"{missing[0]}{suffix}; {remedy}{name_alike(first)}"
        )
    CHECKS[suffix](records, [f"{folder}/{record.name}{suffix}" for record in records])


def check_superpixels(records: Records, folder: Path, longest: int | None) -> None:
    """Check that a folder holds the superpixels of every image; a hundred files are read whole.

    Raises:
        FileNotFoundError: when one is missing.
        ValueError: for one that is broken, holds what is no number, or is of another image.
    """
    check_products(records, folder, ".npz", "superpixels", MAKE_SUPERPIXELS)
    for record in spread_choice(records, READ_WHOLE):
        path, size = folder / f"{record.name}.npz", read_size(record.image)
        copy = size if longest is None else fit_longest(size, longest)
        require_fitting(read_superpixels(path), path, copy, size)


def require_fitting(superpixels: Superpixels, path: Path, size: Size, on_disk: Size) -> None:
    """Raise ValueError unless superpixels are of an image, or of its copy of a size."""
    if tuple(superpixels.size) not in (size, on_disk):
        raise ValueError(
            f"superpixels {path} are of size {tuple(superpixels.size)}, the image is "
            f"{on_disk}; delete the file and run `python infer.py task=superpixels`"
        )


def keep_labelled(records: Records) -> Records:
    """Leave out images that show none of the classes, and say how many."""
    without = [record.name for record in records if record.labels == ()]
    if len(without) == len(records):
        raise ValueError(
            "no image of the training split has a label; check dataset/labels and dataset.classes"
        )
    if without:
        logger.warning(
            "%d images without any label are left out of training: %s",
            len(without),
            name_first(without),
        )
    return [record for record in records if record.labels != ()]


def choose_shots(records: Records, shots: int, classes: Sequence[str], seed: int) -> Records:
    """Choose `shots` images per class, no image twice; a seed always chooses the same."""
    if shots < 1:
        raise ValueError(
            f"dataset.shots={shots}: expected at least one image per class, or null for all images"
        )

    # class by class, among the images that no class has taken yet
    order = np.random.default_rng([seed, SHOT_STREAM]).permutation(len(records)).tolist()
    chosen: set[int] = set()
    for index, name in enumerate(classes):
        free = [i for i in order if i not in chosen and index in (records[i].labels or ())]
        if len(free) < shots:
            logger.warning("class %s: %d images instead of %d shots", name, len(free), shots)
        chosen.update(free[:shots])
    return [records[index] for index in sorted(chosen)]


def spread_choice(records: Records, count: int | None) -> Records:
    """Choose `count` records at even distances; None takes all, and so do more than there are.

    >>> spread_choice(list(range(10)), 4)
    [0, 2, 5, 7]
    """
    if count is None or count >= len(records):
        return records
    return [records[index * len(records) // count] for index in range(count)]


def group_by_size(
    records: Sequence[ImageRecord], resize: Resize, batch_size: int, longest: int | None = None
) -> list[Sequence[ImageRecord]]:
    """Deal images to batches of one network size, so that none needs padding.

    Batches of one image keep the order of the images. Images above `longest` are seen as copies.
    """
    if batch_size == 1:
        return [[record] for record in records]
    groups: dict[tuple[int, int], Records] = {}
    sizes = measure_images([record.image_file for record in records])
    for record, size in zip(records, sizes, strict=True):
        if longest is not None:
            size = fit_longest(size, longest)
        groups.setdefault(resize.find_size(size), []).append(record)
    return [batch for group in groups.values() for batch in cut_batches(group, batch_size)]


def cut_batches(records: Records, size: int) -> list[Records]:
    """Cut records into batches of `size`; the last one may be smaller."""
    return [records[first : first + size] for first in range(0, len(records), size)]


def digest_records(records: Records) -> dict[str, int | str]:
    """Count images and digest their names, sizes in bytes and labels; files are not read."""
    stamps = stamp_files([record.image_file for record in records])
    lines = "\n".join(
        f"{record.name}\t{stamp.size}\t{record.labels}"
        for record, stamp in zip(records, stamps, strict=True)
    )
    return {"images": len(records), "sha256": sha256(lines.encode()).hexdigest()[:16]}
