"""Image labels from `cls_labels.npy`: a dictionary of multi-hot arrays by image name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.images import compose_names, find_name
from datamodules.labels import Labels, LabelSource
from fmawsss.files.json_files import many_objects
from fmawsss.files.plain_pickles import read_pickled_arrays


@dataclass(frozen=True)
class LabelsFromArrays:
    """Take labels from the dictionary that `np.save` wrote; nothing that it asks for is run.

    Keys are image names, with or without suffix, or their numbers: 2007000032 for 2007_000032, 9
    for COCO_train2014_000000000009. Values hold 0 or 1 for each class, in their order.
    """

    path: Path | str

    @many_objects()
    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read the labels of all images that the file names.

        Raises:
            ValueError: for arrays of another length or other numbers, and when it names no image.
        """
        path, count = Path(self.path), len(set(source.classes.values()))
        if not path.is_file():
            raise FileNotFoundError(
                f"label file {path} does not exist; name it as dataset.labels.path, or choose "
                "another dataset/labels"
            )
        wanted, composed, numbers = set(images), compose_names(images), number_names(images)
        found: dict[str, Labels] = {}
        for key, values in read_pickled_arrays(path).items():
            number = numbers.get(key, str(key)) if isinstance(key, int) else key
            name = find_name(number, wanted, composed)
            if name in found:
                raise ValueError(f"{path} has two entries of {name}: remove one")
            found[name] = list_marked(values, count, f"{path}, {key}")

        if wanted and wanted.isdisjoint(found):
            raise ValueError(
                f"{path} names none of the images, such as {min(wanted)!r}; its first entry is "
                f"{next(iter(found), None)!r}"
            )
        return found


def list_marked(values: np.ndarray, classes: int, where: str) -> Labels:
    """List the indices that hold 1; raises ValueError, saying `where`, unless all are 0 or 1."""
    if values.size != classes:
        raise ValueError(
            f"{where}: {values.size} numbers, expected {classes}: one for each of dataset.classes, "
            "none for the background"
        )
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{where}: numbers other than 0 and 1, which say that a class is shown")
    return tuple(np.flatnonzero(values).tolist())


def number_names(names: Sequence[str]) -> dict[int, str]:
    """Map the numbers that stand for image names to them: all digits, or the last group of them.

    Numbers that stand for several names are left out.

    >>> number_names(["2007_000032", "2008_000032"])
    {2007000032: '2007_000032', 2008000032: '2008_000032'}
    """
    found: dict[int, str | None] = {}
    for name in names:
        groups = re.findall(r"[0-9]{1,18}", name)
        for number in {int("".join(groups)[:18]), int(groups[-1])} if groups else ():
            found[number] = None if number in found else name
    return {number: name for number, name in found.items() if name is not None}
