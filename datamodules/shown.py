"""What masks show: seeds that teach nothing, truths that score nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fmawsss.files.png import read_mask
from fmawsss.files.texts import name_first
from fmawsss.metrics import IGNORE
from fmawsss.records import ImageRecord

logger = logging.getLogger(__name__)

SEEDS_LOOKED_AT = 100  # whose values are compared with the classes


def shows_class(mask: np.ndarray) -> bool:
    """Say whether a mask shows anything but background (0) and what is ignored (255).

    >>> shows_class(np.array([[0, 255]])), shows_class(np.array([[0, 3]]))
    (False, True)
    """
    return bool(((mask != 0) & (mask != IGNORE)).any())


def list_shown(mask: np.ndarray) -> tuple[int, ...]:
    """List the indices of the classes that a mask shows, ascending.

    >>> list_shown(np.array([[0, 255, 3]], np.uint8))
    (2,)
    """
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    return tuple(value - 1 for value in values if value not in (0, IGNORE))


def show_class(masks: Iterable[Path]) -> bool:
    """Say whether any mask shows a class; reads as far as the first one that does."""
    return any(shows_class(read_mask(mask)) for mask in masks)


def require_shown(records: Sequence[ImageRecord], folder: Path, classes: int) -> None:
    """Check that seeds show classes, those of this data set; a hundred are looked at.

    Warns of classes that are not among the labels of their image, where these are known.

    Raises:
        ValueError: when no seed of a whole split shows a class, or one shows a class beyond.
    """
    if records and not show_class(folder / f"{record.name}.png" for record in records):
        raise ValueError(
            f"none of the {len(records)} seeds in {folder} shows a class, they hold 0 (background) "
            "and 255 (ignored) only: nothing is to be learned from them; look at the CAMs they "
            "were made of, or name other seeds"
        )

    # seeds of another data set
    strange = []
    looked_at = records[:: max(len(records) // SEEDS_LOOKED_AT, 1)]
    for record in looked_at:
        seed = read_mask(folder / f"{record.name}.png")
        beyond = seed[(seed > classes) & (seed != IGNORE)]
        if beyond.size:
            raise ValueError(
                f"seed {folder / record.name}.png holds the value {beyond[0]}, expected 0 to "
                f"{classes} or 255: seeds of another data set? Name others with seeds=DIR, or "
                "correct dataset.classes"
            )
        if record.labels is not None and set(list_shown(seed)).difference(record.labels):
            strange.append(record.name)
    if strange:
        logger.warning(
            "the seeds in %s show classes that are not among the labels, in %d of %d images that "
            "were looked at: %s; are they of another data set, or of classes in another order?",
            folder,
            len(strange),
            len(looked_at),
            name_first(strange),
        )


def report_unshown(records: Sequence[ImageRecord]) -> None:
    """Warn when no ground-truth mask of a whole split shows a class."""
    truths = [record.truth_file for record in records if record.truth_file is not None]
    if truths and not show_class(map(Path, truths)):
        logger.warning(
            "no mask of %d shows any class, they hold 0 and 255 only (first %s): 255 is ignored, "
            "scores are of the background alone; write 1 for the first class, 2 for the second",
            len(truths),
            truths[0],
        )
