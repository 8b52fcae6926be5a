"""What earlier stages have not made yet, for a few images: blank, of the same sizes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fmawsss.files.images import read_size
from fmawsss.files.png import write_palette_png
from fmawsss.files.storage import write_superpixels
from fmawsss.records import ImageRecord
from fmawsss.resizing import Size, fit_longest
from fmawsss.sam.partitions import record_partition
from fmawsss.viz import make_palette

ROWS, COLUMNS = 13, 16  # some 200 regions, as photos have


def cut_squares(size: Size) -> np.ndarray:
    """Number the squares of a chess board laid over an image.

    >>> len(np.unique(cut_squares((200, 300))))
    208
    """
    rows = np.arange(size[0]) * ROWS // size[0]
    columns = np.arange(size[1]) * COLUMNS // size[1]
    return rows[:, None] * COLUMNS + columns


def write_squares(folder: Path, records: Iterable[ImageRecord], longest: int | None) -> None:
    """Write superpixels of images, or of their copies."""
    for record in records:
        size = read_size(record.image)
        copy = size if longest is None else fit_longest(size, longest)
        path = folder / f"{record.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_superpixels(path, record_partition(cut_squares(copy)), "")


def write_stripes(folder: Path, records: Iterable[ImageRecord]) -> None:
    """Write seeds of images: background beside stripes of their classes, one where none is known.

    records: with labels where these are known.
    """
    for record in records:
        height, width = read_size(record.image)
        values = np.array([0, *(label + 1 for label in record.labels or (0,))], np.uint8)
        stripes = values[np.arange(width) * len(values) // width]
        path = folder / f"{record.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_palette_png(path, np.tile(stripes, (height, 1)), make_palette(256))
