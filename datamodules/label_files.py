"""Image labels from files that people write: CSV tables and text lists, a line per image."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.images import compose_names, find_name, tell
from datamodules.labels import Labels, LabelSource, check_label, find_classes, read_each
from fmawsss.files.texts import name_first, read_table, read_text
from fmawsss.metrics import IGNORE

ARRAYS = (".npz", ".pkl", ".pickle", ".pt", ".pth", ".mat")


@dataclass(frozen=True)
class LabelRow:
    """A line of a label file; `place` is named in messages, `surplus` stands in no right column."""

    name: str
    labels: list[str]
    place: str
    surplus: Sequence[str] = ()

    def find_classes(self, classes: Mapping[str, int], count_from: int | None) -> Labels:
        """Turn the class names into indices, or the class numbers, which count from 0 or 1.

        Raises ValueError naming the place.
        """
        if self.surplus:
            raise ValueError(
                f"{self.place}: {', '.join(map(repr, self.surplus))} stands outside the column "
                "`labels`; put semicolons between several labels, and quotation marks around a "
                "name with a comma"
            )
        number = next((label for label in self.labels if label.isdecimal()), None)
        if count_from is not None:
            return find_numbers(self.labels, len({*classes.values()}), count_from, self.place)
        if number is not None and number not in classes and number != str(IGNORE):
            raise ValueError(
                f"{self.place}: label {number!r} is a number, and no class is called so; where "
                "labels are class numbers, say what the first class is: dataset.labels.count_from=0"
            )
        return find_classes(self.labels, classes, self.place)


@dataclass(frozen=True)
class LabelFile:
    """Take labels from a file that names an image in each line.

    A name is the image's path below the data set's folder, with or without suffix. `remedy` says
    how to come by a file that is missing. With `count_from`, 0 or 1, labels are the numbers of the
    classes in their order, and this is the first one's.
    """

    path: Path | str
    remedy: str = "write it"
    count_from: int | None = None

    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read the labels of all images that the file names."""
        rows = self.read_rows()
        return gather_labels(rows, images, source.classes, self.path, self.count_from)

    def list_names(self, images: Sequence[str]) -> list[str]:
        """List the class names that occur, in alphabetical order."""
        if self.count_from is not None:
            raise ValueError(
                f"{self.path} names classes by number: set dataset.classes=[cat,dog], in the order "
                "of the numbers"
            )
        rows = self.read_rows()
        return sorted({check_label(label, row.place) for row in rows for label in row.labels})

    @abstractmethod
    def read_rows(self) -> Iterator[LabelRow]:
        """Read the file line by line."""


class LabelsFromFile(LabelFile):
    """Take labels from a CSV file with the columns `name,labels`; semicolons separate labels.

    Other columns are left alone, but `scores` (of proposed labels) holds numbers.
    """

    def read_rows(self) -> Iterator[LabelRow]:
        """Read the file line by line."""
        path = require_label_file(self.path, self.remedy)
        table = read_table(path, ("name", "labels"))
        if guarded := table.guarded:
            tell(
                f"{path}: {name_first(guarded)} are read without the apostrophe, which keeps "
                f"spreadsheets from calculating ({len(guarded)} cells); write two to keep one"
            )
        for number, row, surplus in table.read_rows():
            scores = split_cells(row.get("scores", ""), ";")
            words = [cell for cell in scores if not re.search(r"\d", cell)]
            labels = split_cells(row["labels"], ";")
            yield LabelRow(row["name"], labels, f"{path}, line {number}", words + surplus)


class LabelsFromList(LabelFile):
    """Take labels from a text file: on each line a name, then its labels.

    Tabs separate them, or spaces in a line without tabs.
    """

    def read_rows(self) -> Iterator[LabelRow]:
        """Read the file line by line."""
        path = require_label_file(self.path, self.remedy)
        for number, line in enumerate(read_text(path).splitlines(), 1):
            name, *labels = split_cells(line, "\t" if "\t" in line else None) or [""]
            if name:
                yield LabelRow(name, labels, f"{path}, line {number}")


def gather_labels(
    rows: Iterable[LabelRow],
    images: Sequence[str],
    classes: Mapping[str, int],
    path: Path | str,
    count_from: int | None = None,
) -> dict[str, Labels]:
    """Collect the labels of a file's rows by image; see `LabelFile` for `count_from`.

    Raises ValueError when they name none of `images`, and LabelFaults for labels of no class.
    """
    rows = list(rows)
    labels = read_each(lambda row: row.find_classes(classes, count_from), rows)

    # rows of one image are joined
    wanted = set(images)
    composed = compose_names(images)
    found: dict[str, Labels] = {}
    for row, present in zip(rows, labels, strict=True):
        name = find_name(row.name, wanted, composed)
        found[name] = tuple(sorted({*found.get(name, ()), *present}))

    if wanted and wanted.isdisjoint(found):
        raise ValueError(
            f"{path} names none of the images, such as {min(wanted)!r}; names are paths below the "
            "root"
        )
    return found


def find_numbers(numbers: Sequence[str], classes: int, first: int, where: str) -> Labels:
    """Turn class numbers, which count from `first`, into indices, ascending, each once.

    Raises ValueError for what is none, saying `where` it stands.
    """
    known = {str(index + first): index for index in range(classes)}
    for number in numbers:
        if number not in known:
            raise ValueError(
                f"{where}: label {number!r}, expected a class number from {first} to "
                f"{classes - 1 + first} (dataset.labels.count_from={first})"
            )
    return tuple(sorted({known[number] for number in numbers}))


def split_cells(line: str, separator: str | None) -> list[str]:
    """Split a line into words without surrounding space; empty ones are dropped."""
    return [cell.strip() for cell in line.split(separator) if cell.strip()]


def require_label_file(path: Path | str, remedy: str = "write it") -> Path:
    """Return the path of a label file; raises FileNotFoundError when there is none.

    Raises ValueError for a kind that is no text.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"label file {path} does not exist; {remedy}, or choose another dataset/labels"
        )
    if Path(path).suffix.lower() == ".npy":
        raise ValueError(
            f"{path} holds arrays, no text: dataset/labels=npy reads a dictionary of them by image "
            "name"
        )
    if Path(path).suffix.lower() in ARRAYS:
        raise ValueError(
            f"{path} may hold objects that run code when they are read: write its labels as a CSV "
            "file `name,labels` where you trust it, and name that as dataset.labels.path"
        )
    return Path(path)
