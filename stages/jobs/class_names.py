"""The classes of a data set as people look at them before they train: counts, images, slips."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from datamodules.choosing import Records
from fmawsss.files.texts import fold_text
from stages.jobs.tables import show_table

logger = logging.getLogger(__name__)

EXAMPLES = 3  # images of a class


def show_classes(classes: Sequence[str], labelled: Mapping[str, Records]) -> None:
    """Print the classes with their mask values, images by split, and the first that show them."""
    shown = {split: group_images(records) for split, records in labelled.items()}
    if classes and shown:
        rows = []
        for index, name in enumerate(classes):
            images = [found.get(index, []) for found in shown.values()]
            first = next(filter(None, images), [])[:EXAMPLES]
            rows.append([index + 1, name, *map(len, images), ", ".join(first)])
        show_table("classes", ("value", "name", *shown, "for instance"), rows)
    for remark in remark_names(classes):
        logger.warning("%s", remark)


def group_images(records: Records) -> dict[int, list[str]]:
    """Name the images that show each class."""
    found = defaultdict(list)
    for record in records:
        for label in record.labels or ():
            found[label].append(record.name)
    return found


def remark_names(classes: Sequence[str]) -> Iterator[str]:
    """Say which names of classes look like a slip.

    >>> list(remark_names(["circle,square", "cat", "Cat"]))[0]
    "class 'circle,square' looks like several: put semicolons between labels"
    """
    for name in classes:
        if re.search(r"[,;|\[\]\t]|^{.*}$", name):
            yield f"class {name!r} looks like several: put semicolons between labels"
        elif re.fullmatch(r"[\W\d_]+", name):
            yield f"class {name!r} has no letter: is it the name of a class?"
    folded = Counter(map(fold_text, classes))
    alike = [name for name in classes if folded[fold_text(name)] > 1]
    if alike:
        how = "by capitals alone, or by signs that are not seen"
        yield f"classes {', '.join(map(repr, alike))} differ {how}: write them alike"
