"""Choose the photos whose correction helps most: `infer.py task=next count=20 save_as=[coco]`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Records, Splits
from fmawsss.choice import Choice, choose_diverse, describe_image
from fmawsss.files.corrected import count_corrected, open_corrected
from fmawsss.files.products import holds_files
from fmawsss.files.regions import read_regions, require_keys
from fmawsss.files.texts import name_first, write_row
from fmawsss.files.writing import write_bytes
from stages.exports.masks import Exports, MaskSet, check_exports, link_image
from stages.reports.lines import read_report_lines

logger = logging.getLogger(__name__)

COLUMNS = ("rank", "image", "uncertainty", "distance", "file")


def choose_next(
    data: SegmentationDataModule,
    splits: Splits,
    count: int,
    seeds: str,
    regions: str,
    corrected: str,
    table: str,
    photos: str,
    exports: Exports,
) -> None:
    """List the photos to correct next in a table, and write these alone with their masks.

    count: photos. seeds, regions: what a memory made, and what it was made of. corrected: photos
    whose masks are there are done. table, photos: what is written.

    Raises:
        FileNotFoundError: without masks, or without regions.
    """
    data.prepare_data()
    records, folder = data.read_records(splits), Path(seeds)
    if not holds_files(folder):
        raise FileNotFoundError(
            f"{folder} holds no masks to correct: make them with `python train.py`, or `python "
            "infer.py task=memory`, or name others with job.seeds=DIR"
        )

    # what is there to be chosen
    lines = read_report_lines(folder, len(data.classes) + 1)
    sure = dict(zip(lines, lines.confidences.tolist(), strict=True))
    done = list_done(Path(corrected), data, records)
    known = [r for r in records if np.isfinite(sure.get(r.name, np.nan))]
    if missing := [r.name for r in records if r not in known]:
        logger.warning(
            "%d photos have no mask in %s: %s", len(missing), folder, name_first(missing)
        )
    uncertainty = np.array([1 - sure[record.name] for record in known])
    chosen = choose_images(known, uncertainty, done, Path(regions), count)

    # a table, and files for other tools
    rows = [
        (rank, known[one.image].name, f"{uncertainty[one.image]:.4f}", f"{one.distance:.4f}",
         known[one.image].image_file)
        for rank, one in enumerate(chosen, 1)
    ]  # fmt: skip
    text = "".join([write_row(COLUMNS), *map(write_row, rows)])
    write_bytes(Path(table), text.encode())
    logger.info("%d photos to correct next: %s", len(chosen), table)
    write_exports(exports, [known[one.image] for one in chosen], folder, data.classes, Path(photos))
    if len(chosen) < count:
        logger.info("asked for %d: no more are left, %d are corrected", count, len(done))


def list_done(folder: Path, data: SegmentationDataModule, records: Records) -> set[str]:
    """List the photos that were corrected before."""
    if not count_corrected(folder):
        return set()
    trusted = open_corrected(folder, data.classes)
    return {record.name for record in records if record.name in trusted}


def choose_images(
    records: Records,
    uncertainty: np.ndarray,
    done: set[str],
    regions: Path,
    count: int,
) -> list[Choice]:
    """Choose among photos those that are uncertain and unlike what is corrected or chosen."""
    descriptions = torch.stack(list(describe(records, regions)))
    corrected = [number for number, record in enumerate(records) if record.name in done]
    return choose_diverse(descriptions, torch.from_numpy(uncertainty), corrected, count)


def describe(records: Records, regions: Path) -> Iterator[torch.Tensor]:
    """Describe each photo by the keys of its regions, those that are unsure count most."""
    for record in records:
        path = regions / f"{record.name}.npz"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist, which says what a photo looks like: `python infer.py "
                "task=cls callbacks=regions` makes it; or name the folder with job.regions=DIR"
            )
        found = read_regions(path)
        yield describe_image(require_keys(path, found), found.scores)


def write_exports(
    exports: Exports, records: Records, folder: Path, classes: Sequence[str], images: Path
) -> None:
    """Write the masks of photos in the formats that are asked for, and the photos beside them."""
    if not exports or not records:
        return
    masks = MaskSet(folder, {record.name: record.image for record in records}, classes, "next")
    check_exports(exports, masks)
    for name, export in exports.items():
        export(masks)
        logger.info("their masks are saved as %s in %s", name, images.parent)
    for name, image in masks.images.items():
        link_image(image, images / masks.name_file(name))
