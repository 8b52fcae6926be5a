"""Finished masks as numbers: how much of each image belongs to each class."""

from __future__ import annotations

from pathlib import Path

from fmawsss.files.json_files import write_json
from fmawsss.networks.segmenter import count_pixels
from stages.exports.masks import MaskSet


def export_areas(masks: MaskSet, path: Path | str) -> None:
    """Write a JSON file: size of each image, pixels and share of each class that occurs."""
    classes = ["background", *masks.classes]
    images = {}
    for name, mask in masks.read():
        height, width = mask.shape
        pixels = count_pixels(mask, classes)
        shares = {label: round(count / mask.size, 6) for label, count in pixels.items()}
        images[name] = {"height": height, "width": width, "pixels": pixels, "shares": shares}
    write_json(Path(path), {"classes": classes, "images": images})
