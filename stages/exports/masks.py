"""Finished masks in the formats of other tools: `python infer.py task=network save_as=[voc,cvat]`.

This file holds the formats of palette PNGs: VOC's tree, the archive of VOC's evaluation server,
    CVAT's masks.
"""

from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from datamodules.base import SegmentationDataModule
from datamodules.choosing import name_splits
from fmawsss.files.storage import read_mask, replace_file, write_bytes
from fmawsss.viz import make_palette

logger = logging.getLogger(__name__)

IGNORED = 255
SERVER_FOLDER = (
    "results/VOC2012/Segmentation/comp6_test_cls"  # comp6: trained on more than VOC's own images
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every zipped file: the same masks give the same archive


@dataclass(frozen=True)
class MaskSet:
    """Masks on disk, `<folder>/<name>.png`, and what they belong to; `images` maps names to image
    files.
    """

    folder: Path
    images: Mapping[str, Path]
    classes: Sequence[str]
    split: str

    def read(self) -> Iterator[tuple[str, UInt8[np.ndarray, "H W"]]]:
        """Read the masks one after the other, in the order of the images."""
        for name in self.images:
            yield name, read_mask(self.folder / f"{name}.png")

    def name_file(self, name: str) -> str:
        """Return the file name of an image below its data set's folder."""
        return name + self.images[name].suffix


def export_masks(
    exports: Mapping[str, Callable[[MaskSet], None]],
    folder: Path,
    datamodule: SegmentationDataModule,
    stage: str,
    sharded: bool,
) -> None:
    """Write the finished masks of the predicted split in each of the formats; of shards, the last
    one does.
    """
    images = {
        record.name: record.image for record in datamodule.read_records(datamodule.predict_split)
    }
    unfinished = sharded and not all((folder / f"{name}.png").is_file() for name in images)
    if not exports or rank_zero_only.rank != 0 or unfinished:
        return
    split = "_".join(name_splits(datamodule.predict_split))
    masks = require_masks(MaskSet(folder, images, datamodule.class_names, split))
    for name, export in exports.items():
        export(masks)
        logger.info("%s: masks saved as %s in exports/%s", stage, name, stage)


def require_masks(masks: MaskSet) -> MaskSet:
    """Return the masks; raises ValueError when one of them is missing."""
    missing = [name for name in masks.images if not (masks.folder / f"{name}.png").is_file()]
    if missing:
        raise ValueError(
            f"save_as needs masks, but {masks.folder}/{missing[0]}.png does not exist: "
            "use a task that writes masks (cls, seg, seeds, network)"
        )
    return masks


def export_voc(masks: MaskSet, folder: Path | str) -> None:
    """Write VOC's tree, readable with `dataset=voc`: palette PNGs, links to the images, the list of
    the split.

    Folders in names become `__`, for VOC knows none.
    """
    root = Path(folder)
    flat = {name: name.replace("/", "__") for name in masks.images}
    if len(set(flat.values())) < len(flat):
        raise ValueError(
            "two images would have one name in VOC's tree; rename those with `__` in their names"
        )
    for name, image in masks.images.items():
        link_image(image, root / "JPEGImages" / f"{flat[name]}{image.suffix}")
        write_bytes(
            root / "SegmentationClass" / f"{flat[name]}.png",
            (masks.folder / f"{name}.png").read_bytes(),
        )
    write_bytes(
        root / "ImageSets" / "Segmentation" / f"{masks.split}.txt", write_lines(flat.values())
    )
    write_bytes(root / "class_names.txt", write_lines(["background", *masks.classes]))


def export_voc_server(masks: MaskSet, path: Path | str) -> None:
    """Write the archive that VOC's evaluation server takes, with one palette PNG per image."""
    with replace_file(Path(path)) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for name in masks.images:
            data = (masks.folder / f"{name}.png").read_bytes()
            entry = tarfile.TarInfo(f"{SERVER_FOLDER}/{name}.png")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def export_cvat(masks: MaskSet, path: Path | str) -> None:
    """Write CVAT's "Segmentation mask 1.1": colour PNGs of classes and of objects, one object per
    class.

    Ignored pixels belong to no label.
    """
    palette = make_palette(256)
    colours = enumerate(["background", *masks.classes])
    labels = [f"{label}:{','.join(map(str, palette[index]))}::" for index, label in colours]
    with (
        replace_file(Path(path)) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        add_file(archive, "labelmap.txt", write_lines(["# label:color_rgb:parts:actions", *labels]))
        add_file(archive, "ImageSets/Segmentation/default.txt", write_lines(masks.images))
        for name, mask in masks.read():
            mask = np.where(mask == IGNORED, 0, mask)
            _, objects = np.unique(np.append(mask.ravel(), 0), return_inverse=True)
            add_file(archive, f"SegmentationClass/{name}.png", encode_png(palette[mask]))
            add_file(
                archive,
                f"SegmentationObject/{name}.png",
                encode_png(palette[objects[:-1].reshape(mask.shape)]),
            )


def link_image(image: Path, link: Path) -> None:
    """Link to an image instead of copying it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(link) as temporary:
        temporary.symlink_to(image.resolve())


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
