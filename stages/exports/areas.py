"""Finished masks as numbers: how much of each image belongs to each class."""

from __future__ import annotations

from pathlib import Path

from fmawsss.files.json_files import write_json
from fmawsss.files.texts import write_row
from fmawsss.files.writing import write_bytes
from fmawsss.networks.segmenter import count_pixels
from stages.exports.masks import MaskSet


def export_areas(masks: MaskSet, path: Path | str) -> None:
    """Write a JSON file: size of each image, pixels and share of each class that occurs.

    A CSV beside it has a row for each of these classes of an image.
    """
    classes = ["background", *masks.classes]
    images = {}
    rows = [write_row(["name", "class", "pixels", "share"])]
    for name, mask in masks.read():
        height, width = mask.shape
        pixels = count_pixels(mask, classes)
        shares = {label: round(count / mask.size, 6) for label, count in pixels.items()}
        images[name] = {"height": height, "width": width, "pixels": pixels, "shares": shares}
        rows += [write_row([name, label, pixels[label], shares[label]]) for label in pixels]
    write_json(Path(path), {"classes": classes, "images": images})
    write_bytes(Path(path).with_suffix(".csv"), "".join(rows).encode())
