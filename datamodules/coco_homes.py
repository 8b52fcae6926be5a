"""Lists of COCO's images, such as the 82 081 and 40 137 that many papers use: `split=train.txt`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from datamodules.label_arrays import number_names
from datamodules.voc import read_split_list


def find_homes(
    file: Path, splits: Iterable[str], list_names: Callable[[str], Sequence[str]]
) -> dict[str, list[str]]:
    """Find the official splits that hold the images of a list, and which ones each holds.

    The list has names or numbers, 000000000009 for COCO_train2014_000000000009; `list_names` lists
    the images of a split, and is asked until all are found.

    Raises:
        ValueError: for a list that names other images.
    """
    left, homes = read_split_list(file), {}
    for split in splits:
        names = list_names(split)
        numbers = {str(number): name for number, name in number_names(names).items()}
        known = {**numbers, **dict(zip(names, names, strict=True))}
        found = {name: known.get(name) or numbers.get(name.lstrip("0")) for name in left}
        homes[split] = [name for name in found.values() if name is not None]
        left = [name for name in left if found[name] is None]
        if not left:
            return {split: names for split, names in homes.items() if names}
    raise ValueError(
        f"{file} names {len(left)} images that are in no split, first {left[0]!r}: correct or "
        "remove them"
    )
