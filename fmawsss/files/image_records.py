"""Where an image of a split lies, and what is known of it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

Place = tuple[str, str] | str  # what a name does not say of a path


class _Fields(NamedTuple):
    name: str
    image_place: Place
    labels: tuple[int, ...] | None
    truth_place: Place | None


class ImageRecord(_Fields):
    """One image of a split, not yet read.

    `labels` are class indices in ascending order, empty when the image shows none of the classes,
    None when the split has no labels or when they were not asked for. `truth` is its ground-truth
    mask, if the data set has one. Of both paths only what the name does not say is held, and that
    once for all images of a folder: a split may be large.
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        image: Path | str,
        labels: tuple[int, ...] | None = None,
        truth: Path | str | None = None,
    ) -> ImageRecord:
        """Note an image, its labels, and its truth."""
        mask = None if truth is None else find_place(os.fspath(truth), name)
        return super().__new__(cls, name, find_place(os.fspath(image), name), labels, mask)

    def __getnewargs__(self) -> tuple[str, str, tuple[int, ...] | None, str | None]:
        return self.name, self.image_file, self.labels, self.truth_file

    @property
    def image_file(self) -> str:
        """The image's file, as text."""
        return put_together(self.image_place, self.name)

    @property
    def truth_file(self) -> str | None:
        """The file of its ground truth, as text."""
        return None if self.truth_place is None else put_together(self.truth_place, self.name)

    @property
    def image(self) -> Path:
        """The image's file."""
        return Path(self.image_file)

    @property
    def truth(self) -> Path | None:
        """The file of its ground truth."""
        return None if self.truth_file is None else Path(self.truth_file)

    def without_truth(self) -> ImageRecord:
        """Return the same image without its ground truth."""
        return ImageRecord(self.name, self.image_file, self.labels)


@cache
def share_place(before: str, after: str) -> tuple[str, str]:
    """Return one place for all images of a folder and an ending."""
    return before, after


def find_place(path: str, name: str) -> Place:
    """Return what stands before and after a name in a path; the path where it does not hold it.

    >>> find_place("a/b/c.jpg", "b/c"), find_place("a/c.jpg", "d")
    (('a/', '.jpg'), 'a/c.jpg')
    """
    before, found, after = path.rpartition(name)
    return share_place(before, after) if found and os.sep not in after else path


def put_together(place: Place, name: str) -> str:
    """Return the path of which `find_place` found the place."""
    return place if isinstance(place, str) else f"{place[0]}{name}{place[1]}"
