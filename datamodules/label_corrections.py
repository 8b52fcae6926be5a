"""Labels that a person has corrected, in the table of doubtful ones that a report writes."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.images import compose_names, find_name, tell
from datamodules.labels import LabelFaults, Labels, find_classes
from fmawsss.files.texts import read_table

REQUIRED = ("image", "class", "label", "correct")
LISTED, MISSING = "listed", "missing"
YES, NO = ("yes", "y", "1", "true", "x"), ("", "no", "n", "0", "false")


class Change(NamedTuple):
    """A label that is taken away where it was listed, or added where it was missing."""

    image: str
    label: int
    added: bool


def correct_labels(
    labels: Mapping[str, Labels],
    path: Path,
    others: Iterable[str],
    classes: Mapping[str, int],
) -> dict[str, Labels]:
    """Change labels as the rows of a table say that are marked `yes` in its column `correct`.

    labels: by image name. others: images of other splits, whose rows count there.

    Raises:
        FileNotFoundError: when there is no such table.
        LabelFaults: for rows that name no image, no class, or say neither yes nor no.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset.label_corrections={path} does not exist: `python infer.py task=report` "
            "writes doubtful_labels.csv, in which you mark what to correct"
        )
    corrected = dict(labels)
    added = removed = 0
    for change in read_changes(path, set(labels), set(others), classes):
        before = set(corrected[change.image])
        after = before | {change.label} if change.added else before - {change.label}
        added, removed = added + len(after - before), removed + len(before - after)
        corrected[change.image] = tuple(sorted(after))
    tell(f"{path}: {added} labels added, {removed} taken away")
    return corrected


def read_changes(
    path: Path, images: set[str], others: set[str], classes: Mapping[str, int]
) -> list[Change]:
    """Read the changes of images; raises LabelFaults with all rows that are wrong."""
    changes: list[Change] = []
    faults: list[str] = []
    known = images | others
    composed = compose_names(known)
    for number, row, _ in read_table(path, REQUIRED).read_rows():
        try:
            change = read_row(row, f"{path}, line {number}", known, composed, classes)
        except ValueError as error:
            faults.append(str(error))
            continue
        if change is not None and change.image in images:
            changes.append(change)
    if faults:
        raise LabelFaults(faults)
    return changes


def read_row(
    row: Mapping[str, str],
    place: str,
    known: set[str],
    composed: Mapping[str, str],
    classes: Mapping[str, int],
) -> Change | None:
    """Read a row, None for one that changes nothing; raises ValueError naming its place."""
    mark, said = row["correct"].strip().casefold(), row["label"].strip()
    if mark not in (*YES, *NO):
        raise ValueError(f"{place}: correct is {reprlib.repr(row['correct'])}, expected yes or no")
    if said not in (LISTED, MISSING):
        raise ValueError(f"{place}: label is {reprlib.repr(said)}, expected {LISTED} or {MISSING}")
    image = find_name(row["image"], known, composed)
    if image not in known:
        raise ValueError(f"{place}: {reprlib.repr(row['image'])} is no image of the data set")
    (label,) = find_classes([row["class"].strip()], classes, place)
    return Change(image, label, said == MISSING) if mark in YES else None
