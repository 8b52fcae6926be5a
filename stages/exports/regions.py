"""Finished masks as regions: COCO's annotations and YOLO's polygons, without ignored pixels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from fmawsss.files.json_files import write_json
from fmawsss.files.polygons import trace_polygons
from fmawsss.files.writing import write_bytes
from fmawsss.superpixels import encode_masks
from stages.exports.masks import Export, MaskSet, link_image, write_lines

Pixels = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class CocoAnnotations:
    """COCO's annotations as run lengths and as polygons, one per image and class."""

    folder: Path | str

    def __call__(self, masks: MaskSet) -> None:
        """Write a file of each kind."""
        for kind, encode in (("rle", count_runs), ("polygons", list_corners)):
            write_bytes(
                Path(self.folder) / f"instances_{kind}.json",
                json.dumps(describe_regions(masks, encode)).encode(),
            )


def describe_regions(masks: MaskSet, encode: Callable[[Pixels], Any]) -> dict[str, Any]:
    """Make the content of an annotation file; categories are numbered like mask values."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, mask) in enumerate(masks.read(), 1):
        height, width = mask.shape
        images.append(
            {"id": number, "file_name": masks.name_file(name), "height": height, "width": width}
        )

        # One annotation for each class of the image
        for value, region in split_classes(mask, len(masks.classes)):
            own = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**own, **describe_region(value, region, encode)})
    return describe_set(masks, images, annotations)


def describe_region(value: int, region: Pixels, encode: Callable[[Pixels], Any]) -> dict[str, Any]:
    """Describe a region of a class for an annotation file."""
    return {
        "category_id": value,
        "iscrowd": 0,
        "segmentation": encode(region),
        "area": int(region.sum()),
        "bbox": find_box(region),
    }


def describe_set(
    masks: MaskSet, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    """Put together the content of an annotation file."""
    categories = [{"id": value, "name": label} for value, label in enumerate(masks.classes, 1)]
    info = {"description": f"split {masks.split}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


@dataclass(frozen=True)
class YoloLabels(Export):
    """YOLO's segmentation labels, a polygon per line, links to images, and `data.yaml`."""

    folder: Path | str

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for images whose labels YOLO would look for elsewhere."""
        strange = [name for name in masks.images if "images" in PurePosixPath(name).parts[:-1]]
        if strange:
            raise ValueError(
                f"image {strange[0]!r}: YOLO finds labels by the last folder called `images`, "
                "which this one lies in: rename the folder, or save_as another format"
            )

    def __call__(self, masks: MaskSet) -> None:
        """Write labels, links and `data.yaml`."""
        root = Path(self.folder)
        for name, mask in masks.read():
            polygons = list_polygons(mask, len(masks.classes))
            write_bytes(root / "labels" / f"{name}.txt", write_lines(polygons))
            link_image(masks.images[name], root / "images" / masks.name_file(name))

        # JSON is YAML, and knows how to quote any class name
        data = {
            "path": str(root.resolve()),
            "train": "images",
            "val": "images",
            "names": list(masks.classes),
        }
        write_json(root / "data.yaml", data)


def list_polygons(mask: UInt8[np.ndarray, "H W"], classes: int) -> Iterator[str]:
    """Write each polygon of a mask as a line of numbers: its class, then x and y in 0…1."""
    size = np.array([mask.shape[1], mask.shape[0]])
    for value, region in split_classes(mask, classes):
        for polygon in trace_polygons(region):
            corners = " ".join(f"{number:.6f}" for number in (polygon / size).ravel())
            yield f"{value - 1} {corners}"


def split_classes(mask: UInt8[np.ndarray, "H W"], classes: int) -> Iterator[tuple[int, Pixels]]:
    """Yield each class that a mask holds, as its value and its pixels."""
    for value in np.unique(mask):
        if 0 < value <= classes:
            yield int(value), mask == value


def count_runs(region: Pixels) -> dict[str, Any]:
    """Code a region as COCO's uncompressed run lengths."""
    counts, _ = encode_masks(torch.from_numpy(region)[None])
    return {"size": list(region.shape), "counts": counts.tolist()}


def list_corners(region: Pixels) -> list[list[int]]:
    """Code a region as COCO's polygons, `[x, y, x, y, …]` each."""
    return [polygon.ravel().tolist() for polygon in trace_polygons(region)]


def find_box(region: Pixels) -> list[int]:
    """Return left, top, width and height of a region."""
    (top, *_, bottom), (left, *_, right) = (
        np.flatnonzero(region.any(axis=axis))[[0, -1]] for axis in (1, 0)
    )
    return [int(left), int(top), int(right - left + 1), int(bottom - top + 1)]
