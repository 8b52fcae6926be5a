"""Where an image of a split lies, and what is known of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class _Fields(NamedTuple):
    name: str
    image_file: str
    labels: tuple[int, ...] | None
    truth_file: str | None


class ImageRecord(_Fields):
    """One image of a split, not yet read.

    `labels` are class indices in ascending order, empty when the image shows none of the classes,
    None when the split has no labels or when they were not asked for. `truth` is its ground-truth
    mask, if the data set has one. Both paths are held as text, which takes a fifth of the room.
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
        mask = None if truth is None else os.fspath(truth)
        return super().__new__(cls, name, os.fspath(image), labels, mask)

    @property
    def image(self) -> Path:
        """The image's file."""
        return Path(self.image_file)

    @property
    def truth(self) -> Path | None:
        """The file of its ground truth."""
        return None if self.truth_file is None else Path(self.truth_file)
