"""A folder as a person has it: `python -m fmawsss.tiny.photos photos` draws images with labels.

Generated scenes take the place of photos, for a tutorial that needs no data and no weights.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from fmawsss.files.png import write_palette_png
from fmawsss.files.writing import write_bytes
from fmawsss.resizing import Picture
from fmawsss.tiny.shapes import CLASS_NAMES, draw_scene, present_classes
from fmawsss.viz import make_palette


def main(words: list[str] | None = None) -> None:
    """Draw photos, and say what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--draw", type=int, default=0, help="another number draws others")
    parser.add_argument("--enlarge", type=int, default=1, help="sides are 112 times as many pixels")
    parser.add_argument("--masks", type=Path, help="a new folder for the true masks")
    options = parser.parse_args(words)
    for folder in (options.folder, options.masks):
        if folder is not None and folder.exists():
            parser.error(f"{folder} is there already: name a new folder, or remove it")
    draw_photos(options.folder, options.photos, options.draw, options.enlarge, options.masks)
    print(f"{options.photos} photos in {options.folder}, labels in {find_table(options.folder)}")  # noqa: T201


def find_table(folder: Path) -> Path:
    """Return where the labels of a folder of photos lie: beside it."""
    return folder.with_name(f"{folder.name}.csv")


def draw_photos(folder: Path, photos: int, draw: int, enlarge: int, masks: Path | None) -> None:
    """Draw JPEGs into a new folder, with a CSV of their labels beside it.

    Masks hold 0 for background, then the labels of the CSV in alphabetical order, as they are read.
    """
    # photos, and what they show
    rng = np.random.default_rng(draw)
    folder.mkdir(parents=True)
    drawn = {f"IMG_{number:04d}": draw_scene(rng) for number in range(1, photos + 1)}
    labels = {
        name: [CLASS_NAMES[index] for index in present_classes(scene)]
        for name, scene in drawn.items()
    }
    for name, scene in drawn.items():
        write_bytes(folder / f"{name}.jpg", encode_photo(scene.image, enlarge))
    lines = ["name,labels", *(f"{name},{';'.join(found)}" for name, found in labels.items())]
    write_bytes(find_table(folder), "\n".join([*lines, ""]).encode())

    # their true masks
    if masks is None:
        return
    masks.mkdir(parents=True)
    shown = sorted({label for found in labels.values() for label in found})
    values = np.zeros(256, np.uint8)
    for value, label in enumerate(shown, 1):
        values[CLASS_NAMES.index(label) + 1] = value
    for name, scene in drawn.items():
        large = np.kron(values[scene.semantic], np.ones((enlarge, enlarge), np.uint8))
        write_palette_png(masks / f"{name}.png", large, make_palette(len(shown) + 1))


def encode_photo(image: Picture, enlarge: int) -> bytes:
    """Encode an image as a JPEG, its sides `enlarge` times as long."""
    picture = Image.fromarray(image)
    buffer = io.BytesIO()
    size = picture.width * enlarge, picture.height * enlarge
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
