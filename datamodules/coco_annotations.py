"""COCO's annotation files: which classes an image shows, and its semantic mask.

Where regions overlap, the mask shows crowds below single objects, and larger regions below smaller
ones: regions are painted over each other with crowds first, each kind by descending `area`, ties by
ascending annotation id. A crowd counts as its class. Classes are numbered in the order of the
category ids (80 classes for the 91 ids of COCO). Ids are numbers or texts: 7 and "7" are the same.
"""

from __future__ import annotations

import json
import logging
import reprlib
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from datamodules.coco_regions import (
    CocoRegion,
    decode_region,
    is_number,
    pack_polygons,
    rank_region,
    require_size,
)
from datamodules.images import check_inner_path, strip_suffix
from fmawsss.files.json_files import many_objects
from fmawsss.metrics import IGNORE

logger = logging.getLogger(__name__)

LISTS = ("images", "categories", "annotations")


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of an annotation file, all entries of its file name together.

    `size` is what the file says, checked where it is needed; `regions` is None in a file without
    annotations (test).
    """

    file: str
    size: tuple[Any, Any]
    regions: list[CocoRegion] | None


@dataclass(frozen=True)
class Annotations:
    """The images of a file, the class index of each category id, and the names in class order."""

    images: list[AnnotatedImage]
    classes: dict[str, int]
    names: list[str]


@many_objects()
def read_annotations(path: Path) -> Annotations:
    """Read `instances_*.json` or `image_info_*.json`.

    Raises:
        ValueError: naming the file, and the image, category or annotation that is not as it should
            be. What regions cover is checked where it is painted.
    """
    content = read_content(path)
    try:
        categories = {read_id(one, "id", "category"): one for one in content["categories"]}
        refuse_twice("categories", content["categories"], categories)
        order = sorted(categories, key=rank_id)
        names = [read_category_name(categories[key]) for key in order]
        classes = {key: index for index, key in enumerate(order)}

        # an image without regions shows nothing, unless the file holds none at all
        known = "annotations" in content
        regions: dict[str, list[CocoRegion]] = defaultdict(list)
        for region in content.get("annotations", ()):
            check_region(region, classes)
            regions[str(region["image_id"])].append(region)
        images = {read_id(one, "id", "image"): one for one in content["images"]}
        refuse_twice("images", content["images"], images)
        found = join_images(images, regions if known else None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; repair the file") from error

    report_lost_regions(path, regions, images.keys())
    return Annotations(found, classes, names)


def read_content(path: Path) -> dict[str, Any]:
    """Read a JSON file with the lists of COCO; raises ValueError naming a file of another kind."""
    try:
        content = json.loads(path.read_bytes(), object_hook=pack_polygons)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no whole COCO annotation file ({error}); unpack or write it again"
        ) from error
    wanted = LISTS if isinstance(content, dict) and "annotations" in content else LISTS[:2]
    missing = [key for key in wanted if not is_list(content, key)]
    if missing:
        raise ValueError(
            f"{path} is no whole COCO annotation file (no list `{missing[0]}`); unpack or write it "
            "again"
        )
    return content


def is_list(content: Any, key: str) -> bool:
    """Say whether an entry is a list of dictionaries."""
    entries = content.get(key) if isinstance(content, dict) else None
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)


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


def check_region(region: CocoRegion, classes: Mapping[str, int]) -> None:
    """Raise ValueError, naming the annotation, unless its image, category and area are right."""
    category, area, crowd = (region.get(key) for key in ("category_id", "area", "iscrowd"))
    if type(region.get("image_id")) not in (int, str):
        fault = "image_id", "a whole number or a text"
    elif str(category) not in classes or type(category) not in (int, str):
        fault = "category_id", "one of the file's categories"
    elif area is not None and not is_number(area):
        fault = "area", "a number"
    elif crowd not in (None, 0, 1):
        fault = "iscrowd", "0 or 1"
    else:
        return
    key, expected = fault
    number, image, found = (reprlib.repr(region.get(one)) for one in ("id", "image_id", key))
    raise ValueError(
        f"annotation {number} of image {image} has the {key} {found}, expected {expected}"
    )


def join_images(
    images: Mapping[str, Mapping[str, Any]], regions: Mapping[str, list[CocoRegion]] | None
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
        own = None if regions is None else regions.get(key, [])
        if (other := stems.setdefault(strip_suffix(file), file)) != file:
            raise ValueError(f"images {other} and {file} share a name: rename one of them")
        if (before := found.get(file)) is not None:
            if size != before.size:
                raise ValueError(
                    f"two images are called {file}, of the sizes {before.size}, {size}"
                )
            own = None if own is None else [*(before.regions or []), *own]
        found[file] = AnnotatedImage(file, size, own)
    return list(found.values())


def report_lost_regions(
    path: Path, regions: Mapping[str, Sequence[CocoRegion]], listed: Set[str]
) -> None:
    """Say how many regions belong to images that the file does not list."""
    lost = sum(len(found) for image, found in regions.items() if image not in listed)
    if lost:
        logger.warning(
            "%s: %d annotations belong to images that it does not list; they are left out",
            path,
            lost,
        )


def list_classes(regions: Sequence[CocoRegion], classes: Mapping[str, int]) -> list[int]:
    """List the class indices of some regions, ascending; crowds count."""
    return sorted({classes[str(region["category_id"])] for region in regions})


def list_images(annotations: Annotations) -> list[tuple[str, list[int] | None]]:
    """List file name and class indices of every image, None where nothing is known about it."""
    rows: list[tuple[str, list[int] | None]] = []
    for image in annotations.images:
        known = image.regions
        rows.append(
            (image.file, None if known is None else list_classes(known, annotations.classes))
        )
    return rows


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
