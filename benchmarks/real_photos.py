"""Superpixels of real photos that ship with scikit-image: `python -m benchmarks.real_photos`.

The photos lie in its wheel, nothing is fetched. They are free to use: the cat by Stefan van der
Walt and the coffee by Rachel Michetti (CC0), the astronaut by NASA and the rocket by SpaceX (public
domain).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from skimage import data
from skimage.segmentation import mark_boundaries

from fmawsss.files.storage import read_superpixels
from fmawsss.files.writing import replace_file
from fmawsss.resizing import Picture
from fmawsss.seeding import find_top_masks
from fmawsss.superpixels import Superpixels
from fmawsss.viz import colour_superpixels, draw_panel

ROOT = Path(__file__).parents[1]
PHOTOS = {"cat": "chelsea", "coffee": "coffee", "astronaut": "astronaut", "rocket": "rocket"}
SIDE = 240  # of a picture, in pixels


def main(words: Sequence[str] | None = None) -> None:
    """Cut the photos with both cutters that need no download, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "photos.webp")
    parser.add_argument("--photos", nargs="+", choices=PHOTOS, default=list(PHOTOS))
    options = parser.parse_args(words)
    photos = {name: np.asarray(getattr(data, PHOTOS[name])()) for name in options.photos}
    with TemporaryDirectory() as folder:
        cut = {
            sam: cut_photos(photos, sam, Path(folder)) for sam in ("superpixels_classic", "tiny")
        }
    rows = [
        draw_photo(name, photo, {sam: found[name] for sam, found in cut.items()})
        for name, photo in photos.items()
    ]
    with replace_file(options.out) as temporary:
        Image.fromarray(draw_panel(rows, SIDE)).save(temporary, "webp", quality=80)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")  # noqa: T201


def cut_photos(photos: Mapping[str, Picture], sam: str, folder: Path) -> dict[str, Superpixels]:
    """Cut photos as the command line does."""
    (folder / "photos").mkdir(exist_ok=True)
    for name, photo in photos.items():
        Image.fromarray(photo).save(folder / "photos" / f"{name}.png")
    words = [f"sam={sam}", *(["masks=shapes"] if sam == "tiny" else [])]
    words += [f"dataset.root={folder}/photos", f"paths.outputs={folder}/{sam}", "report=none"]
    command = [sys.executable, "infer.py", "task=superpixels", "dataset=folder", *words]
    subprocess.run(command, cwd=ROOT, check=True)
    made = folder / sam / "folder" / "superpixels"
    return {name: read_superpixels(made / f"{name}.npz") for name in photos}


def draw_photo(
    name: str, photo: Picture, cut: Mapping[str, Superpixels]
) -> list[tuple[str, Picture]]:
    """Draw a photo beside its superpixels, their borders and their mean colours."""
    classic, tiny = cut["superpixels_classic"], cut["tiny"]
    top = number_pixels(classic)
    borders = (255 * mark_boundaries(photo, top, color=(1, 1, 0))).astype(np.uint8)
    return [
        (name, photo),
        (f"{len(classic)} superpixels", colour_superpixels(classic, SIDE)),
        ("their borders", borders),
        ("their mean colours", average_colours(photo, top)),
        ("by the tiny SAM", colour_superpixels(tiny, SIDE)),
    ]


def number_pixels(superpixels: Superpixels) -> Int64[np.ndarray, "H W"]:
    """Number each pixel by the smallest superpixel that holds it."""
    order = superpixels.area.argsort(descending=True, stable=True)
    return find_top_masks(order, superpixels, torch.device("cpu")).numpy()


def average_colours(photo: Picture, top: Int64[np.ndarray, "H W"]) -> Picture:
    """Paint each superpixel in its mean colour."""
    _, numbers = np.unique(top.ravel(), return_inverse=True)
    pixels = np.bincount(numbers)
    channels = [np.bincount(numbers, photo[..., channel].ravel()) for channel in range(3)]
    means = np.stack(channels, axis=1) / pixels[:, None]
    return means[numbers].reshape(photo.shape).astype(np.uint8)


if __name__ == "__main__":
    main()
