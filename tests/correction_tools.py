"""Files of corrections as other tools write them, and two images to read them for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fmawsss.files.png import read_mask, write_palette_png, write_png
from fmawsss.records import ImageRecord
from fmawsss.viz import make_palette
from stages.corrections.archives import open_source
from stages.corrections.formats import choose_reader
from stages.corrections.gather import Gathered, Gatherer
from stages.exports.masks import MaskSet

SIZE = (12, 16)
CLASSES = ("cat", "dog")


def draw_masks(folder: Path) -> MaskSet:
    """Draw two images with masks; the second one is background alone."""
    rng = np.random.default_rng(0)
    images = {}
    for name, values in (("in/a", rng.integers(0, 3, SIZE)), ("b", np.zeros(SIZE))):
        images[name] = folder / "images" / f"{name}.png"
        write_png(images[name], np.zeros((*SIZE, 3), np.uint8))
        mask = values.astype(np.uint8)
        write_palette_png(folder / "masks" / f"{name}.png", mask, make_palette(256))
    return MaskSet(folder / "masks", images, CLASSES, "train")


def gather(
    masks: MaskSet, path: Path, written: str = "auto", outside: int = 0, last: bool = False
) -> tuple[Gathered, dict[str, np.ndarray]]:
    """Read a file of corrections; return what was found, and the masks."""
    folder = path.parent / "taken"
    records = [ImageRecord(name, image) for name, image in masks.images.items()]
    with open_source(path) as source:
        gatherer = Gatherer(records, CLASSES, outside, last, folder)
        found = gatherer.gather(source, choose_reader(source, written))
    return found, {name: read_mask(folder / f"{name}.png") for name in found.rows}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_tasks(path: Path, *tasks: dict) -> Path:
    return write(path, json.dumps(list(tasks)))


def task(image: str, *results: dict, **more: object) -> dict:
    return {"data": {"image": image}, "annotations": [{"result": list(results), **more}]}


def region(kind: str, label: str, **value: object) -> dict:
    size = {"original_height": SIZE[0], "original_width": SIZE[1]}
    return {"type": kind, **size, "value": {kind: [label], **value}}


SQUARE = region("rectanglelabels", "cat", x=0, y=0, width=25, height=25, rotation=0)


def cvat(*shapes: str, name: str = "b.png", size: tuple[int, int] = SIZE) -> str:
    inner = "".join(shapes)
    image = f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">{inner}</image>'
    return f"<annotations><version>1.1</version>{image}</annotations>"


BOX = '<box label="dog" xtl="2" ytl="1" xbr="6" ybr="5"/>'
