"""COCO's annotation files: which classes an image shows, and its semantic mask.

Where regions overlap, the mask shows crowds below single objects, and larger regions below smaller
ones: regions are painted over each other with crowds first, each kind by descending `area`, ties by
ascending annotation id. A crowd counts as its class. Classes are numbered in the order of the
category ids (80 classes for the 91 ids of COCO). Ids are numbers or texts: 7 and "7" are the same.
"""

from __future__ import annotations

import logging
import reprlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from datamodules.coco_lists import CocoLists, Places, check_regions, read_lists
from datamodules.coco_regions import CocoRegion, decode_region, rank_region, require_size
from datamodules.images import check_inner_path, strip_suffix
from fmawsss.files.images import stamp_file
from fmawsss.files.json_files import many_objects
from fmawsss.files.json_lists import open_json, read_entry
from fmawsss.metrics import IGNORE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image of an annotation file, all entries of its file name together.

    size: what the file says, checked where it is needed.
    regions: where they stand in the file; None in a file without annotations (test).
    shown: its classes, ascending; crowds count.
    """

    file: str
    size: tuple[Any, Any]
    regions: Places | None
    shown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """The images of a file, the class index of each category id, and the names in class order."""

    path: Path
    stamp: str
    images: list[AnnotatedImage]
    classes: dict[str, int]
    names: list[str]

    @contextmanager
    def open_regions(self) -> Iterator[Callable[[AnnotatedImage], list[CocoRegion]]]:
        """Open the file; what is given reads the regions of an image.

        Raises ValueError when the file is another one since its images were read.
        """
        if stamp_file(self.path) != self.stamp:
            raise ValueError(f"{self.path} was changed meanwhile: run the same command again")
        with open_json(self.path) as file:
            yield partial(read_regions, file)


def read_regions(file: BufferedIOBase, image: AnnotatedImage) -> list[CocoRegion]:
    """Read the regions of an image."""
    places = image.regions or array("q")
    return [read_entry(file, *place) for place in zip(places[::3], places[1::3], strict=True)]


@many_objects()
def read_annotations(path: Path) -> Annotations:
    """Read `instances_*.json` or `image_info_*.json`, whose regions stay there.

    Raises:
        ValueError: naming the file, and the image, category or annotation that is not as it should
            be. What regions cover is checked where it is painted.
    """
    stamp = stamp_file(path)
    lists = read_whole_lists(path)
    try:
        categories = {read_id(one, "id", "category"): one for one in lists.categories}
        refuse_twice("categories", lists.categories, categories)
        order = sorted(categories, key=rank_id)
        names = [read_category_name(categories[key]) for key in order]
        classes = {key: index for index, key in enumerate(order)}

        # an image without regions shows nothing, unless the file holds none at all
        check_regions(path, lists, classes)
        images = {read_id(one, "id", "image"): one for one in lists.images}
        refuse_twice("images", lists.images, images)
        numbered = [classes[category] for category in lists.numbers]
        found = join_images(images, lists.regions if "annotations" in lists.whole else None)
        found = [replace(image, shown=list_shown(image, numbered)) for image in found]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; repair the file") from error

    report_lost_regions(path, lists.regions, images.keys())
    return Annotations(path, stamp, found, classes, names)


def read_whole_lists(path: Path) -> CocoLists:
    """Read the lists of a file; raises ValueError naming a file of another kind."""
    try:
        lists = read_lists(path)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no whole COCO annotation file ({error}); unpack or write it again"
        ) from error
    if missing := lists.find_missing():
        raise ValueError(
            f"{path} is no whole COCO annotation file (no list `{missing}`); unpack or write it "
            "again"
        )
    return lists


def list_shown(image: AnnotatedImage, numbered: Sequence[int]) -> tuple[int, ...]:
    """List the classes of an image from the numbers of its categories."""
    return tuple(sorted({numbered[number] for number in (image.regions or array("q"))[2::3]}))


def read_id(entry: Mapping[str, Any], key: str, what: str) -> str:
    """Return an id as text; raises ValueError for what is neither a number nor a text."""
    found = entry.get(key)
    if type(found) not in (int, str):
        raise ValueError(
            f"{what} {reprlib.repr(entry)} has the {key} {reprlib.repr(found)}, expected a whole "
            "number or a text"
        )
    return str(found)


def rank_id(key: str) -> tuple[float, str]:
    """Return the key by which ids are sorted: numbers by value, texts behind them.

    >>> sorted(["x", "10", "-1", "9"], key=rank_id)
    ['-1', '9', '10', 'x']
    """
    return float(key) if key.removeprefix("-").isdecimal() else np.inf, key


def refuse_twice(what: str, entries: Sequence[Any], by_id: Mapping[str, Any]) -> None:
    """Raise ValueError where several entries have one id."""
    if len(by_id) == len(entries):
        return
    seen: set[str] = set()
    for entry in entries:
        if (key := str(entry["id"])) in seen:
            raise ValueError(f"two {what} have the id {key[:80]!r}")
        seen.add(key)


def read_category_name(category: Mapping[str, Any]) -> str:
    """Return the name of a category; raises ValueError where there is none."""
    name = category.get("name")
    if type(name) not in (int, str) or not str(name).strip():
        raise ValueError(
            f"category {category['id']} has the name {reprlib.repr(name)}, expected a text"
        )
    return str(name)


def join_images(
    images: Mapping[str, Mapping[str, Any]], regions: Mapping[str, Places] | None
) -> list[AnnotatedImage]:
    """Join the entries of each file name; raises ValueError for names that cannot be used."""
    found: dict[str, AnnotatedImage] = {}
    stems: dict[str, str] = {}
    for key, image in images.items():
        name = image.get("file_name")
        if type(name) not in (int, str):
            raise ValueError(f"image {key} has the file_name {reprlib.repr(name)}, expected a text")
        file = check_inner_path(str(name), f"the file_name of image {key[:80]}")

        # another entry of the same file, or of another one with its name
        size = (image.get("height"), image.get("width"))
        own = None if regions is None else regions.get(key, array("q"))
        if (other := stems.setdefault(strip_suffix(file), file)) != file:
            raise ValueError(f"images {other} and {file} share a name: rename one of them")
        if (before := found.get(file)) is not None:
            if size != before.size:
                raise ValueError(
                    f"two images are called {file}, of the sizes {before.size}, {size}"
                )
            own = None if own is None else (before.regions or array("q")) + own
        found[file] = AnnotatedImage(file, size, own)
    return list(found.values())


def report_lost_regions(path: Path, regions: Mapping[str, Places], listed: Set[str]) -> None:
    """Say how many regions belong to images that the file does not list."""
    lost = sum(len(found) // 3 for image, found in regions.items() if image not in listed)
    if lost:
        logger.warning(
            "%s: %d annotations belong to images that it does not list; they are left out",
            path,
            lost,
        )


def list_images(annotations: Annotations) -> list[tuple[str, list[int] | None]]:
    """List file name and class indices of every image, None where nothing is known about it."""
    return [
        (image.file, None if image.regions is None else list(image.shown))
        for image in annotations.images
    ]


def number_ids(classes: Mapping[str, int]) -> UInt8[np.ndarray, "256"]:
    """Map each category id to its class index + 1, and 0 and 255 to themselves.

    Other ids become 254, which is refused where masks are read.

    Raises:
        ValueError: for ids that no mask can hold.
    """
    numbers = np.full(256, 254, np.uint8)
    numbers[[0, IGNORE]] = 0, IGNORE
    for category, index in classes.items():
        if not category.isdecimal() or not 0 < int(category) < IGNORE:
            raise ValueError(
                f"masks cannot hold the category id {category[:80]!r}, expected 1 to {IGNORE - 1}; "
                "set dataset.masks_hold_ids=false"
            )
        numbers[int(category)] = index + 1
    return numbers


def paint_mask(
    size: tuple[Any, Any], regions: Sequence[CocoRegion], classes: Mapping[str, int]
) -> UInt8[np.ndarray, "H W"]:
    """Paint the semantic mask of one image by the rule at the head of this file."""
    known = require_size(size)
    mask = np.zeros(known, np.uint8)
    decoded = [(region, decode_region(region, known)) for region in regions]
    for region, pixels in sorted(decoded, key=rank_region):
        mask[pixels] = classes[str(region["category_id"])] + 1
    return mask
