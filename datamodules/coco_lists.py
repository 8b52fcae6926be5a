"""The lists of a COCO annotation file, read entry by entry; its regions stay where they stand."""

from __future__ import annotations

import reprlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from datamodules.coco_regions import CocoRegion, is_number
from fmawsss.files.json_lists import Entry, open_json, read_entry, stream_lists

LISTS = ("images", "categories", "annotations")
IMAGE_KEYS = ("id", "file_name", "height", "width")  # of an image, nobody asks for others

Place: TypeAlias = tuple[int, int]  # of a region in its file: the first byte, and how many
Places: TypeAlias = array  # of the regions of an image: these two, and the number of the category


@dataclass
class CocoLists:
    """What the lists of a file hold.

    whole: by key, whether it is a list of objects.
    regions: places of regions by the id of their image.
    numbers: the ids of categories that regions name, numbered; `firsts` says where each is first.
    wrong: the first region that is wrong whatever the categories are.
    """

    whole: dict[str, bool] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    regions: dict[str, Places] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    firsts: list[Place] = field(default_factory=list)
    wrong: Place | None = None

    def find_missing(self) -> str | None:
        """Name a list that is missing, or none; a file without annotations needs two."""
        wanted = LISTS if "annotations" in self.whole else LISTS[:2]
        return next((key for key in wanted if not self.whole.get(key)), None)


def read_lists(path: Path) -> CocoLists:
    """Read the lists of a file; raises ValueError or RecursionError where it is no JSON."""
    found = CocoLists()
    with open_json(path) as file:
        for key, entries in stream_lists(file):
            if key in LISTS:
                found.whole[key] = entries is not None and READERS[key](found, entries)
    return found


def keep_images(found: CocoLists, entries: Iterable[Entry]) -> bool:
    """Keep what is asked of images; say whether all are objects."""
    found.images = []
    for _, _, image in entries:
        if not isinstance(image, dict):
            return False
        found.images.append({key: image[key] for key in IMAGE_KEYS if key in image})
    return True


def keep_categories(found: CocoLists, entries: Iterable[Entry]) -> bool:
    """Keep categories; say whether all are objects."""
    found.categories = [entry.value for entry in entries]
    return all(isinstance(category, dict) for category in found.categories)


def place_regions(found: CocoLists, entries: Iterable[Entry]) -> bool:
    """Keep where regions stand; say whether all are objects."""
    found.regions, found.numbers, found.firsts, found.wrong = {}, {}, [], None
    for start, size, region in entries:
        if not isinstance(region, dict):
            return False
        if find_fault(region) is not None:
            found.wrong = found.wrong or (start, size)
            continue
        category = str(region["category_id"])
        number = found.numbers.setdefault(category, len(found.numbers))
        if number == len(found.firsts):
            found.firsts.append((start, size))
        image = found.regions.setdefault(str(region["image_id"]), array("q"))
        image.extend((start, size, number))
    return True


READERS = {"images": keep_images, "categories": keep_categories, "annotations": place_regions}


def find_fault(
    region: CocoRegion, classes: Mapping[str, int] | None = None
) -> tuple[str, str] | None:
    """Find a key of a region whose value is wrong, and what is expected there.

    Without `classes` any category will do.
    """
    category, area, crowd = (region.get(key) for key in ("category_id", "area", "iscrowd"))
    if type(region.get("image_id")) not in (int, str):
        return "image_id", "a whole number or a text"
    if type(category) not in (int, str) or (classes is not None and str(category) not in classes):
        return "category_id", "one of the file's categories"
    if area is not None and not is_number(area):
        return "area", "a number"
    return ("iscrowd", "0 or 1") if crowd not in (None, 0, 1) else None


def check_regions(path: Path, lists: CocoLists, classes: Mapping[str, int]) -> None:
    """Raise ValueError, naming the first region whose image, category or area is wrong."""
    named = zip(lists.numbers, lists.firsts, strict=True)
    places = [place for category, place in named if category not in classes]
    places += [] if lists.wrong is None else [lists.wrong]
    if not places:
        return
    with open_json(path) as file:
        region = read_entry(file, *min(places))
    fault = find_fault(region, classes)
    assert fault is not None
    number, image, found = (reprlib.repr(region.get(key)) for key in ("id", "image_id", fault[0]))
    raise ValueError(
        f"annotation {number} of image {image} has the {fault[0]} {found}, expected {fault[1]}"
    )
