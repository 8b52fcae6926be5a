"""COCO's annotation files, as people correct them; painted by the rule of `dataset=coco`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from datamodules.coco_annotations import AnnotatedImage, read_annotations
from datamodules.coco_regions import CocoRegion, rank_region, read_region, require_size
from fmawsss.files.polygons import fill_polygon
from fmawsss.resizing import Size
from stages.corrections.archives import Source
from stages.corrections.records import Correction, Found, Refusal, Shape, Untouched
from stages.corrections.shapes import Pixels


def read_files(source: Source) -> Iterator[Found]:
    """Read the annotation files of a source, image by image.

    Raises:
        ValueError: naming a file that is none of COCO's.
    """
    for name in source.find(".json"):
        annotations = read_annotations(source.place(name))
        labels = {key: annotations.names[index] for key, index in annotations.classes.items()}
        with annotations.open_regions() as read:
            for image in annotations.images:
                yield read_image(image, labels, read, f"{name}, image {image.file}")


def read_image(image: AnnotatedImage, labels: Mapping[str, str], read: Any, place: str) -> Found:
    """Read the regions of an image, crowds and larger ones first: what comes later lies above."""
    if not image.regions:
        return Untouched(image.file)
    try:
        size = require_size(image.size)
        regions = cast(list[CocoRegion], read(image))
        ordered = sorted(regions, key=partial(rank, size=size))
    except ValueError as error:
        return Refusal(image.file, f"{place}: {error}")
    shapes = [
        Shape(labels[str(region["category_id"])], partial(draw_region, region))
        for region in ordered
    ]
    return Correction(image.file, place, size, shapes)


def rank(region: CocoRegion, size: Size) -> tuple[int, float, int, str]:
    """Return the key by which regions are painted."""
    pixels = np.zeros(0) if region.get("area") is not None else draw_region(region, size)
    return rank_region((region, pixels))


def draw_region(region: CocoRegion, size: Size) -> Pixels:
    """Draw run lengths or polygons."""
    parts: Any = read_region(region, size)
    if isinstance(region["segmentation"], dict):
        return np.repeat(np.arange(len(parts)) % 2 == 1, parts).reshape(size, order="F")
    pixels = np.zeros(size, bool)
    for polygon in parts:
        pixels |= fill_polygon(np.array(polygon, np.float64).reshape(-1, 2), size)
    return pixels
