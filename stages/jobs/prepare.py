"""Make a data set ready, but for what is there: `python infer.py task=prepare dataset=coco`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits, name_splits
from datamodules.coco import CocoDataModule
from datamodules.images import index_images
from stages.jobs.archives import Archive, fetch_archive, unpack_folder
from stages.jobs.tables import show_table

logger = logging.getLogger(__name__)

PART_COLUMNS = ("part", "files", "place")


def prepare_images(data: SegmentationDataModule, splits: Splits) -> None:
    """Let the data set make what it makes by itself, then count the images of some splits."""
    data.prepare_data()
    rows = [("images", len(data.read_records(splits)), splits)]
    show_table("prepared", PART_COLUMNS, rows)


def prepare_coco(
    data: CocoDataModule,
    splits: Splits,
    downloads: Path | str,
    archives: Mapping[str, Archive],
    images: Mapping[str, int],
) -> None:
    """Unpack the archives below the data set's root, one folder each, and make masks of splits.

    `images` holds the published number of images by folder. Raises ValueError when a folder holds
    another number.
    """
    # what the archives hold
    root = Path(data.root)
    rows = []
    for folder, archive in archives.items():
        fetch_folder(root / folder, archive, folder, Path(downloads))
    for folder, expected in images.items():
        check_count(root / folder, expected)
        rows.append(("images", expected, root / folder))

    # what is made of it
    data.make_masks(splits)
    for split in name_splits(splits):
        folder = data.find_mask_folder(split)
        rows.append((f"masks of {split}", sum(1 for _ in folder.glob("*.png")), folder))
    show_table("COCO, prepared", PART_COLUMNS, rows)


def fetch_folder(folder: Path, archive: Archive, inner: str, downloads: Path) -> None:
    """Fetch and unpack an archive unless its folder is there."""
    if folder.is_dir():
        logger.info("%s is there", folder)
        return
    unpack_folder(fetch_archive(archive, downloads), inner, folder)


def check_count(folder: Path, expected: int) -> None:
    """Raise ValueError unless a folder holds so many images."""
    found = len(index_images(folder))
    if found != expected:
        raise ValueError(
            f"{folder} holds {found} images, expected {expected}: it was not unpacked whole; "
            "move it away and run `python infer.py task=prepare` again"
        )
