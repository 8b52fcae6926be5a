"""COCO's annotation files: which classes an image shows, and its semantic mask.

Where regions overlap, the mask shows crowds below single objects, and larger regions below smaller
ones: regions are painted over each other with crowds first, each kind by descending `area`, ties by
ascending annotation id. A crowd counts as its class. Classes are numbered in the order of the
category ids (80 classes for the 91 ids of COCO).
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from fmawsss.metrics import IGNORE
from fmawsss.resizing import Size

logger = logging.getLogger(__name__)

CocoRegion = dict[str, Any]  # one entry of "annotations"


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of an annotation file; `regions` is None in a file without annotations (test)."""

    file: str
    size: Size
    regions: list[CocoRegion] | None


@dataclass(frozen=True)
class Annotations:
    """The images of a file, the class index of each category id, and the names in class order."""

    images: list[AnnotatedImage]
    classes: dict[int, int]
    names: list[str]


def read_annotations(path: Path) -> Annotations:
    """Read `instances_*.json` or `image_info_*.json`; raises ValueError naming a broken file."""
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        regions: dict[int, list[CocoRegion]] = defaultdict(list)
        for region in content.get("annotations", ()):
            regions[region["image_id"]].append(region)

        # an image without regions shows nothing, unless the file holds none at all
        known = "annotations" in content
        images = [
            AnnotatedImage(
                i["file_name"], (i["height"], i["width"]), regions[i["id"]] if known else None
            )
            for i in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no whole COCO annotation file ({error!r}); unpack or write it again"
        ) from error

    report_lost_regions(path, regions, {image["id"] for image in content["images"]})
    classes = {category["id"]: index for index, category in enumerate(categories)}
    return Annotations(images, classes, [category["name"] for category in categories])


def report_lost_regions(
    path: Path, regions: Mapping[int, Sequence[CocoRegion]], listed: Set[int]
) -> None:
    """Say how many regions belong to images that the file does not list."""
    lost = sum(len(found) for image, found in regions.items() if image not in listed)
    if lost:
        logger.warning(
            "%s: %d annotations belong to images that it does not list; they are left out",
            path,
            lost,
        )


def list_classes(regions: Sequence[CocoRegion], classes: dict[int, int], where: str) -> list[int]:
    """List the class indices of some regions, ascending; crowds count."""
    for region in regions:
        if (category := region.get("category_id")) not in classes:
            raise ValueError(
                f"{where}: annotation {region.get('id')} has the category id {category}, which is "
                "not among the file's categories; repair the file"
            )
    return sorted({classes[region["category_id"]] for region in regions})


def number_ids(classes: dict[int, int]) -> UInt8[np.ndarray, "256"]:
    """Map each category id to its class index + 1, and 0 and 255 to themselves.

    Other ids become 254, which is refused where masks are read.
    """
    numbers = np.full(256, 254, np.uint8)
    numbers[[0, IGNORE]] = 0, IGNORE
    for category, index in classes.items():
        numbers[category] = index + 1
    return numbers


def paint_mask(
    size: Size, regions: Sequence[CocoRegion], classes: dict[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Paint the semantic mask of one image by the rule at the head of this file."""
    mask = np.zeros(size, np.uint8)
    decoded = [(region, decode_region(region, size)) for region in regions]
    for region, pixels in sorted(decoded, key=rank_region):
        mask[pixels] = classes[region["category_id"]] + 1
    return mask


def rank_region(decoded: tuple[CocoRegion, np.ndarray]) -> tuple[int, float, int]:
    """Return the key by which regions are painted; their pixels are counted without an `area`."""
    region, pixels = decoded
    area = region.get("area")
    return (
        -(region.get("iscrowd") or 0),
        -float(pixels.sum() if area is None else area),
        region.get("id", 0),
    )


def decode_region(region: CocoRegion, size: Size) -> Bool[np.ndarray, "H W"]:
    """Decode the pixels of a region; raises ValueError naming the annotation where that fails."""
    segmentation = region.get("segmentation")
    try:
        if not isinstance(segmentation, dict) or segmentation.get("size") in ([*size], size):
            return decode_segmentation(segmentation, size)
        expected = f"{list(size)} (height, width)"
        found = f"an RLE of the size {segmentation.get('size')}, its image {expected}"
    except (KeyError, TypeError, ValueError, IndexError) as error:
        shown = str(segmentation)[:60]
        found = f"the segmentation {shown}, expected polygons or an RLE ({error!r})"
    raise ValueError(
        f"annotation {region.get('id')} has {found}; repair the annotation, or take it out of the "
        "file"
    )


def decode_segmentation(segmentation: list | dict | None, size: Size) -> Bool[np.ndarray, "H W"]:
    """Decode polygons or an RLE as pycocotools does; polygons of fewer than 3 points are empty."""
    try:
        from pycocotools import mask as rle
    except ImportError as error:
        raise ImportError(
            'masks of COCO regions need pycocotools; run `pip install "fmawsss[coco]"`'
        ) from error

    # run lengths, compressed or not
    if isinstance(segmentation, dict):
        runs = segmentation["counts"]
        if isinstance(runs, (str, bytes)):
            return rle.decode(segmentation).astype(bool)
        if sum(runs) != size[0] * size[1]:
            raise ValueError("its runs do not cover the image")
        return rle.decode(rle.frPyObjects(segmentation, *size)).astype(bool)

    # polygons
    if segmentation is None:
        raise TypeError("there is none")
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).astype(bool)
