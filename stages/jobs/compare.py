"""Compare the labels of images with what their masks show, for `task=check`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from datamodules.choosing import Records
from datamodules.labels import Labels
from fmawsss.files.texts import name_first

MOST_CLASSES = 10  # in one remark, those with the most images first


def compare_labels(
    records: Records, found: Mapping[str, Labels], classes: Sequence[str]
) -> Iterator[str]:
    """Say which labels of images their masks do not show, and what these show without a label.

    found: the classes that the masks show, by image; other images are not compared.
    """
    known = [r for r in records if r.labels is not None and r.name in found]
    labels = {record.name: set(record.labels or ()) for record in known}
    shown = {record.name: set(found[record.name]) for record in known}
    lost = {name: labels[name] - shown[name] for name in labels if labels[name] - shown[name]}
    extra = {name: shown[name] - labels[name] for name in labels if shown[name] - labels[name]}
    for words, apart in (
        ("labels of %d of %d images that their masks do not show: %s", lost),
        ("masks of %d of %d images that show what is not labelled: %s", extra),
    ):
        if apart:
            yield words % (len(apart), len(known), name_apart(apart, classes))
    if 2 * len(lost.keys() & extra.keys()) > len(known):
        yield "is dataset.classes in the order of the mask values, 1 for the first?"


def name_apart(apart: Mapping[str, Iterable[int]], classes: Sequence[str]) -> str:
    """Count images by class, the commonest first, and name the first images of each.

    >>> name_apart({"a": {0}, "b": {0, 1}}, ["cat", "dog"])
    'cat 2 (a, b), dog 1 (b)'
    """
    images: dict[int, list[str]] = defaultdict(list)
    for name, indices in apart.items():
        for index in indices:
            images[index].append(name)

    # the commonest first
    order = sorted(images, key=lambda index: (-len(images[index]), index))
    named = [f"{classes[i]} {len(images[i])} ({name_first(images[i])})" for i in order]
    more = f" and {len(named) - MOST_CLASSES} classes more" if len(named) > MOST_CLASSES else ""
    return ", ".join(named[:MOST_CLASSES]) + more
