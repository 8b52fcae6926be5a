"""Finished masks in the formats of other tools: `infer.py task=network save_as=[voc,cvat]`.

This file holds the formats of palette PNGs: VOC's tree, the archive of VOC's evaluation server,
CVAT's masks.
"""

from __future__ import annotations

import io
import logging
import shutil
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from datamodules.images import check_inner_path
from fmawsss.files.png import read_mask
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.metrics import IGNORE
from fmawsss.viz import make_palette

logger = logging.getLogger(__name__)

# comp6: trained on more than VOC's own images
SERVER_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
# of every zipped file: the same masks give the same archive
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class MaskSet:
    """Masks on disk, `<folder>/<name>.png`, of the `images` (name → file) of a split."""

    folder: Path
    images: Mapping[str, Path]
    classes: Sequence[str]
    split: str

    def list_missing(self) -> list[str]:
        """List the images without a mask."""
        return [name for name in self.images if not (self.folder / f"{name}.png").is_file()]

    def read(self) -> Iterator[tuple[str, UInt8[np.ndarray, "H W"]]]:
        """Read the masks one after the other, in the order of the images."""
        for name in self.images:
            yield name, read_mask(self.folder / f"{name}.png")

    def name_file(self, name: str) -> str:
        """Return the file name of an image below its data set's folder."""
        return name + self.images[name].suffix


class Export(ABC):
    """A format of another tool that does not hold every name."""

    @abstractmethod
    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for names that no reader of the format reads back."""

    @abstractmethod
    def __call__(self, masks: MaskSet) -> None:
        """Write masks that are there."""


Exports = Mapping[str, Callable[[MaskSet], None]]


def check_exports(exports: Exports, masks: MaskSet) -> None:
    """Raise ValueError, before any mask is made, for names that a format cannot hold."""
    for export in exports.values():
        if isinstance(export, Export):
            export.check(masks)


def export_masks(exports: Exports, masks: MaskSet, stage: str, sharded: bool) -> None:
    """Write the finished masks of a stage in each of the formats; of shards, the last one does."""
    unfinished = sharded and masks.list_missing()
    if not exports or rank_zero_only.rank != 0 or unfinished:
        return
    require_masks(masks)
    for name, export in exports.items():
        export(masks)
        logger.info("%s: %s saved as %s below exports/%s", stage, masks.folder, name, stage)


def require_masks(masks: MaskSet) -> None:
    """Raise ValueError when a mask is missing."""
    missing = masks.list_missing()
    if missing:
        raise ValueError(
            f"save_as needs masks, but {masks.folder}/{missing[0]}.png does not exist: "
            "use a task that writes masks (cls, seg, seeds, network)"
        )


@dataclass(frozen=True)
class VocTree(Export):
    """VOC's tree, readable with `dataset=voc`: palette PNGs, links to images, split list.

    Folders in names become `__`, for VOC knows none.
    """

    folder: Path | str

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for names that a line or a file of the tree does not hold."""
        flat = list(map(flatten_name, masks.images))
        if len(set(flat)) < len(flat):
            raise ValueError(
                "two images would have one name in VOC's tree; rename those with `__` in their "
                "names"
            )
        for name, line in zip(masks.images, flat, strict=True):
            check_inner_path(line, f"image {name!r} in VOC's list")
            if line != line.strip() or line.startswith("\ufeff"):  # readers drop that mark
                raise ValueError(
                    f"image {name!r} cannot stand in VOC's list, which knows no quotes: take the "
                    "space around its name, or the mark before it, away, or save_as another format"
                )

    def __call__(self, masks: MaskSet) -> None:
        """Write the tree."""
        # Images and masks
        root = Path(self.folder)
        for name, image in masks.images.items():
            flat = flatten_name(name)
            link_image(image, root / "JPEGImages" / f"{flat}{image.suffix}")
            mask = (masks.folder / f"{name}.png").read_bytes()
            write_bytes(root / "SegmentationClass" / f"{flat}.png", mask)

        # Lists
        split = root / "ImageSets" / "Segmentation" / f"{masks.split}.txt"
        write_bytes(split, write_lines(map(flatten_name, masks.images)))
        write_bytes(root / "class_names.txt", write_lines(["background", *masks.classes]))


@dataclass(frozen=True)
class VocArchive:
    """The archive that VOC's evaluation server takes, with one palette PNG per image."""

    path: Path | str

    def __call__(self, masks: MaskSet) -> None:
        """Write the archive."""
        with replace_file(Path(self.path)) as temporary, tarfile.open(temporary, "w:gz") as archive:
            for name in masks.images:
                data = (masks.folder / f"{name}.png").read_bytes()
                entry = tarfile.TarInfo(f"{SERVER_FOLDER}/{name}.png")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


@dataclass(frozen=True)
class CvatMasks(Export):
    """CVAT's "Segmentation mask 1.1": colour PNGs of classes and objects, one per class.

    Ignored pixels belong to no label.
    """

    path: Path | str

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for names that end a column or a line, or make it a comment."""
        strange = [name for name in masks.classes if ":" in name or name.startswith("#")]
        if strange:
            raise ValueError(
                f"class {strange[0]!r} cannot stand in CVAT's label map, which knows no quotes: "
                "take `:` and a leading `#` out of it, or save_as another format"
            )
        strange = [n for n in masks.images if n.startswith("#") or n != n.strip()]
        if strange:
            raise ValueError(
                f"image {strange[0]!r} cannot stand in CVAT's list, which knows no quotes: take a "
                "leading `#` and the space around its name away, or save_as another format"
            )

    def __call__(self, masks: MaskSet) -> None:
        """Write the archive."""
        palette = make_palette(256)
        with replace_file(Path(self.path)) as temporary, open_archive(temporary) as archive:
            # Labels and their colours
            labels = enumerate(["background", *masks.classes])
            lines = [f"{label}:{','.join(map(str, palette[index]))}::" for index, label in labels]
            head = "# label:color_rgb:parts:actions"
            add_file(archive, "labelmap.txt", write_lines([head, *lines]))

            # Masks; objects are numbered from 1 in the order of their classes
            add_file(archive, "ImageSets/Segmentation/default.txt", write_lines(masks.images))
            for name, mask in masks.read():
                mask = np.where(mask == IGNORE, 0, mask)
                _, objects = np.unique(np.append(mask.ravel(), 0), return_inverse=True)
                numbered = palette[objects[:-1].reshape(mask.shape)]
                add_file(archive, f"SegmentationClass/{name}.png", encode_png(palette[mask]))
                add_file(archive, f"SegmentationObject/{name}.png", encode_png(numbered))


def flatten_name(name: str) -> str:
    """Write the folders in a name as parts of it."""
    return name.replace("/", "__")


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a new zip archive."""
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)


def link_image(image: Path, link: Path) -> None:
    """Give an image a second name, or copy it where the file system has no such links.

    Unlike a symbolic link, both may be packed and moved to another machine.
    """
    if link.is_file() and not link.is_symlink() and link.samefile(image):
        return  # renaming one name of a file to another of it does nothing
    link.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(link) as temporary:
        try:
            temporary.hardlink_to(image.resolve())
        except OSError:
            shutil.copyfile(image, temporary)


def write_lines(lines: Sequence[str] | Mapping[str, object] | Iterator[str]) -> bytes:
    """Encode lines of text."""
    return "".join(f"{line}\n" for line in lines).encode()


def encode_png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encode an RGB picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def add_file(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file to a zip archive."""
    archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
