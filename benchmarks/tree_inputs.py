"""What two checkouts are compared on: a VOC tree in its real layout, and folders of photos."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fmawsss.files.png import write_palette_png
from fmawsss.tiny.shapes import CLASS_NAMES, Scene, draw_scene
from fmawsss.viz import make_palette

VOC_NAMES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat")  # of values 1-8
SIZES = (
    (112, 112),
    (90, 121),
    (64, 96),
    (128, 75),
)  # height, width; most are no multiple of a patch


def draw_scenes(seed: int, count: int) -> Iterator[Scene]:
    """Draw scenes of the generated world."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield draw_scene(rng)


def write_voc(root: Path, images: int) -> None:
    """Write a VOC2012 tree: all images in trainaug, half of them in train, the others in val."""
    names = [f"2007_{number:06d}" for number in range(images)]
    palette = make_palette(256)

    # images, masks and annotations
    for folder in ("JPEGImages", "SegmentationClassAug", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, scene in zip(names, draw_scenes(1, images), strict=True):
        Image.fromarray(scene.image).save(root / f"JPEGImages/{name}.jpg", quality=95)
        write_palette_png(root / f"SegmentationClassAug/{name}.png", scene.semantic, palette)
        (root / f"Annotations/{name}.xml").write_text(describe_objects(name, scene))

    # image lists
    half = images // 2
    for split, listed in (("trainaug", names), ("train", names[:half]), ("val", names[half:])):
        path = root / f"ImageSets/Segmentation/{split}.txt"
        path.write_text("".join(f"{name}\n" for name in listed))


def describe_objects(name: str, scene: Scene) -> str:
    """Write VOC's annotation of a scene."""
    values = np.unique(scene.semantic[scene.semantic > 0])
    objects = "".join(
        f"<object><name>{VOC_NAMES[value - 1]}</name><difficult>0</difficult></object>"
        for value in values
    )
    return f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>"


def write_photos(folder: Path, seed: int, images: int) -> None:
    """Write photos of several sizes, and their labels in `labels.csv` beside the folder."""
    folder.mkdir(parents=True)
    rows = [("name", "labels")]
    for number, scene in enumerate(draw_scenes(seed, images)):
        height, width = SIZES[number % len(SIZES)]
        photo = Image.fromarray(scene.image).resize((width, height), Image.Resampling.BICUBIC)
        photo.save(folder / f"photo {number}.png")
        present = [CLASS_NAMES[value - 1] for value in np.unique(scene.semantic) if value > 0]
        rows.append((f"photo {number}", ";".join(present)))
    with (folder.parent / f"{folder.name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
