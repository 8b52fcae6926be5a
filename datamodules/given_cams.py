"""CAMs from disk, of any origin: do they fit the settings, the images and their labels?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.choosing import Records, Splits, check_products, name_splits, spread_choice
from fmawsss.files.images import read_size
from fmawsss.files.json_files import REMAKE, require_file
from fmawsss.files.storage import BROKEN_ARCHIVE, list_cam_classes, read_cams
from fmawsss.files.texts import name_first
from fmawsss.records import Cams

logger = logging.getLogger(__name__)

READ_WHOLE = 100  # files, before any seed is made
LOOKED_AT = 1000  # images whose CAMs are compared with their labels
MAKE_CAMS = "write them with callbacks=cams"


def check_cams(records: Records, folder: Path, recipes: Sequence[str] | None) -> None:
    """Check that a folder holds the CAMs of every image; a hundred files are read whole.

    Warns of CAMs that do not say where they are from, and of those that lie across their images.

    Raises:
        FileNotFoundError: when one is missing.
        ValueError: for one that is broken, or made by a stage with another recipe.
    """
    check_products(records, folder, ".npz", "CAMs", MAKE_CAMS)
    chosen = spread_choice(records, READ_WHOLE)
    found = [read_fitting_cams(folder / f"{record.name}.npz", recipes) for record in chosen]
    if recipes and any(cams.recipe is None for cams in found[:1]):
        message = "the CAMs of %s do not say which stage made them; seeds get the numbers of %s"
        logger.warning(message, folder, ", ".join(recipes))

    # an upright image with a lying CAM
    pairs = zip(chosen, found, strict=True)
    across = [record.name for record, cams in pairs if lies_across(cams, read_size(record.image))]
    if across:
        logger.warning(
            "the CAMs in %s lie across their images, in %d of %d that were looked at: %s; were "
            "they made without the rotation that a photo's EXIF asks for?",
            folder,
            len(across),
            len(chosen),
            name_first(across),
        )


def read_fitting_cams(path: Path, recipes: Sequence[str] | None) -> Cams:
    """Read the CAMs of an image; raises ValueError when a stage with another recipe made them."""
    cams = read_cams(path)
    if recipes is None or cams.recipe is None or cams.recipe in recipes:
        return cams
    stage, _, numbers = cams.recipe.partition("_")
    own = f"numbers={numbers} (and no recipe=)"
    remedy = own if stage == "cls" else f"recipe=seeds_{cams.recipe}"
    raise ValueError(
        f"CAMs {path} were made by {cams.recipe}, these settings are for {', '.join(recipes)}: add "
        f"{remedy} to take its numbers, or cams_of=[{cams.recipe}] to take these all the same"
    )


def lies_across(cams: Cams, size: tuple[int, int]) -> bool:
    """Say whether CAMs are wider than high and their image is not, or the other way round."""
    height, width = cams.maps.shape[1:]
    return (height - width) * (size[0] - size[1]) < 0


def report_other_classes(data: Any, splits: Splits, folder: Path) -> None:
    """Warn where CAMs are of other classes than the labels of their image.

    data: the data set; at most a thousand images are looked at.
    """
    source = replace(data, labelled=True)
    try:
        found = [record for split in name_splits(splits) for record in source.read_split(split)]
    except (FileNotFoundError, ValueError):  # seeds from CAMs need no labels
        return
    known = spread_choice([r for r in found if r.labels is not None], LOOKED_AT)
    classes = {r.name: read_cam_classes(folder / f"{r.name}.npz") for r in known}
    for words, names in (
        (
            "are of classes that are not among the labels, in %d of %d images that were looked "
            "at: %s; classes count from 0 (docs/cams.md)",
            [r.name for r in known if classes[r.name].difference(r.labels)],
        ),
        (
            "lack classes that are among the labels, in %d of %d images that were looked at: %s; "
            "their seeds will not show them",
            [r.name for r in known if {*r.labels} - classes[r.name]],
        ),
    ):
        if names:
            logger.warning(
                f"the CAMs in %s {words}", folder, len(names), len(known), name_first(names)
            )


def read_cam_classes(path: Path) -> set[int]:
    """Read which classes a file of CAMs is about, without the background (-1)."""
    try:
        with np.load(require_file(path), allow_pickle=False) as archive:
            return {*list_cam_classes(archive).tolist()} - {-1}
    except FileNotFoundError:
        raise
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} is broken or holds no CAMs ({error}): {REMAKE}") from error
