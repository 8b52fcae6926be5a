"""The embedded data set: generated images, written once in VOC's layout and read as VOC is."""

from __future__ import annotations

import io
import json
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from datamodules.voc import VocDataModule
from fmawsss.files.json_files import read_json
from fmawsss.files.png import write_palette_png
from fmawsss.files.writing import name_folder, name_temporary, remove_leftovers
from fmawsss.tiny.shapes import CLASS_NAMES, Scene, draw_scene
from fmawsss.viz import make_palette

logger = logging.getLogger(__name__)

SETTINGS_FILE = "shapes.json"
DRAW_AGAIN = "delete the whole folder, and it is drawn again"
SPLIT_STREAMS = {"train": 0, "val": 1}
JPEG_QUALITY = 95


@dataclass(kw_only=True, eq=False, repr=False)
class ShapesDataModule(VocDataModule):
    """Generated images of `fmawsss.tiny.shapes`; `prepare_data` writes their tree below `root`.

    train_images, val_images: number of images per split.
    p_material: probability that an object wears its class's typical colour and texture.
    draw_seed: another value draws another data set.
    """

    train_images: int
    val_images: int
    p_material: float
    draw_seed: int

    def prepare_data(self) -> None:
        """Write the data set unless it is there.

        Raises ValueError when `root` holds one of other settings, or other files.
        """
        root = Path(self.root)
        settings = self._list_settings()
        with suppress(OSError):  # a folder of others, that may only be read
            remove_leftovers(root.parent)
        if (root / SETTINGS_FILE).is_file():
            self._check_settings(read_json(root / SETTINGS_FILE, DRAW_AGAIN), settings)
            return
        if root.exists() and any(root.iterdir()):
            raise ValueError(
                f"{root} holds other files and no {SETTINGS_FILE}; set dataset.root elsewhere, or "
                "delete the folder"
            )
        counts = self.train_images, self.val_images
        logger.info("drawing %d training and %d validation images in %s", *counts, root)

        # A killed run leaves only the temporary folder; the finished tree appears at once.
        root.parent.mkdir(parents=True, exist_ok=True)
        folder = root.with_name(name_temporary(f"{root.name}-"))
        try:
            with name_folder(root.parent):
                self._write_tree(folder, settings)
            folder.replace(root)
        except OSError:
            if not (root / SETTINGS_FILE).is_file():  # unless another process was first
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def explain_missing(self, split: str) -> str:
        """Say how to come by the list of a split."""
        drawn = " and ".join(SPLIT_STREAMS)
        return f"{drawn} are drawn again when you delete {self.root}; others are yours to write"

    def _list_settings(self) -> dict[str, object]:
        return {
            "version": 1,
            "classes": list(CLASS_NAMES),
            "train_images": self.train_images,
            "val_images": self.val_images,
            "p_material": self.p_material,
            "draw_seed": self.draw_seed,
        }

    def _check_settings(self, found: dict[str, object], settings: dict[str, object]) -> None:
        differing = [key for key in settings if found.get(key) != settings[key]]
        if differing:
            changes = ", ".join(
                f"{key} {found.get(key)!r} (now {settings[key]!r})" for key in differing
            )
            raise ValueError(
                f"{self.root} was drawn with other settings: {changes}; "
                "set dataset.root to another folder, or delete this one"
            )

    def _write_tree(self, folder: Path, settings: dict[str, object]) -> None:
        for name in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True)

        # each split has a stream of its own
        for split, count in (("train", self.train_images), ("val", self.val_images)):
            rng = np.random.default_rng([self.draw_seed, SPLIT_STREAMS[split]])
            names = [f"{split}_{index:05d}" for index in range(count)]
            for name in names:
                write_scene(folder, name, draw_scene(rng, self.p_material))
            listed = "".join(f"{name}\n" for name in names)
            (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(listed)

        # the mark of a complete tree
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n")


def write_scene(folder: Path, name: str, scene: Scene) -> None:
    """Write one scene as VOC would keep it: JPEG, palette PNG, XML."""
    picture = io.BytesIO()
    Image.fromarray(scene.image).save(picture, format="JPEG", quality=JPEG_QUALITY)
    (folder / "JPEGImages" / f"{name}.jpg").write_bytes(picture.getvalue())

    # its mask
    mask = folder / "SegmentationClass" / f"{name}.png"
    write_palette_png(mask, scene.semantic, make_palette(256))

    # an entry per visible class
    present = [CLASS_NAMES[value - 1] for value in np.unique(scene.semantic) if value > 0]
    text = describe_scene(name, scene.image.shape[:2], present)
    (folder / "Annotations" / f"{name}.xml").write_text(text)


def describe_scene(name: str, size: tuple[int, int], classes: list[str]) -> str:
    """Write VOC's XML for an image that shows these classes."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{escape(label)}</name>\n\t\t<difficult>0</difficult>\n\t</object>\n"
        for label in classes
    )
    return (
        f"<annotation>\n\t<filename>{escape(name)}.jpg</filename>\n"
        f"\t<size>\n\t\t<width>{size[1]}</width>\n\t\t<height>{size[0]}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>1</segmented>\n{objects}</annotation>\n"
    )
