"""Data sets of any number of images for `benchmarks.scale`: few files, linked by many names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fmawsss.files.png import write_palette_png
from fmawsss.viz import make_palette

SOURCES = 64  # different images; file systems allow some 65 000 links to one file
SIZE = (48, 64)
CLASSES = 80
REGIONS = 7  # of an image, as in COCO
CORNERS = 40  # numbers of a region's outline
VOC_NAMES = ("aeroplane", "bicycle", "bird", "boat")


@dataclass(frozen=True)
class Sources:
    """Pictures, masks and VOC's annotations that the images of a tree are links to."""

    images: Sequence[Path]
    masks: Sequence[Path]
    annotations: Sequence[Path]


def draw_sources(folder: Path) -> Sources:
    """Draw small pictures, each with a square of one of VOC's first classes."""
    rng, palette = np.random.default_rng(0), make_palette(256)
    found = Sources([], [], [])
    for number in range(SOURCES):
        value = number % len(VOC_NAMES)
        mask = np.zeros(SIZE, np.uint8)
        mask[8:40, 8:40] = value + 1
        paths = [folder / f"{number}.{kind}" for kind in ("jpg", "png", "xml")]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(paths[0], quality=90)
        write_palette_png(paths[1], mask, palette)
        paths[2].write_text(
            f"<annotation><object><name>{VOC_NAMES[value]}</name></object></annotation>"
        )
        for kind, path in zip((found.images, found.masks, found.annotations), paths, strict=True):
            kind.append(path)  # type: ignore[attr-defined]
    return found


def link_files(sources: Sequence[Path], folder: Path, names: Sequence[str]) -> None:
    """Link the sources in turn under many names, each with the ending of its source."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        source = sources[number % len(sources)]
        os.link(source, f"{folder}/{name}{source.suffix}")


def build_coco(root: Path, images: int) -> None:
    """Build train2014, half as many images in val2014, and their annotations."""
    sources = draw_sources(root / "sources")
    for split, count in (("train2014", images), ("val2014", images // 2)):
        names = [f"COCO_{split}_{number:012d}" for number in range(count)]
        link_files(sources.images, root / split, names)
        write_instances(root / "annotations" / f"instances_{split}.json", names)


def write_instances(path: Path, names: Sequence[str]) -> None:
    """Write an annotation file of COCO's size per image, piece by piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    outlines = [
        json.dumps([rng.integers(0, 48, CORNERS).astype(float).round(2).tolist()])
        for _ in range(SOURCES)
    ]
    with path.open("w") as file:
        # the categories, and the images
        categories = [{"id": index + 1, "name": f"class {index}"} for index in range(CLASSES)]
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        height, width = SIZE
        for number, name in enumerate(names):
            image = {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            file.write((", " if number else "") + json.dumps(image))

        # their regions: one of the class in the linked mask, the others of any
        file.write('], "annotations": [')
        for number in range(len(names) * REGIONS):
            owner, place = divmod(number, REGIONS)
            category = (owner % SOURCES % len(VOC_NAMES) if not place else number % CLASSES) + 1
            file.write(
                f'{", " if number else ""}{{"id": {number}, "image_id": {owner}, "category_id": '
                f'{category}, "area": 900.5, "iscrowd": 0, "bbox": [8.0, 8.0, 32.0, 32.0], '
                f'"segmentation": {outlines[number % SOURCES]}}}'
            )
        file.write("]}")


def build_voc(root: Path, images: int) -> None:
    """Build a VOC2012 tree: all images in trainaug, half of them in val."""
    sources = draw_sources(root / "sources")
    names = [f"2007_{number:06d}" for number in range(images)]
    for kind, folder in (
        (sources.images, "JPEGImages"),
        (sources.masks, "SegmentationClassAug"),
        (sources.annotations, "Annotations"),
    ):
        link_files(kind, root / folder, names)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, count in (("trainaug", images), ("train", images // 2), ("val", images // 2)):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names[:count]))


def build_folder(root: Path, images: int) -> None:
    """Build a folder of photos in one subfolder per class."""
    sources = draw_sources(root.parent / "sources")
    for number, name in enumerate(VOC_NAMES):
        own = sources.images[number :: len(VOC_NAMES)]
        link_files(own, root / name, [f"{place:06d}" for place in range(images // len(VOC_NAMES))])


BUILDERS: dict[str, Callable[[Path, int], None]] = {
    "coco": build_coco,
    "voc": build_voc,
    "folder": build_folder,
}
