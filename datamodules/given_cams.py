"""CAMs from disk, of any origin: do they fit the settings, the images and their labels?"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.choosing import Records, Splits, check_products, name_splits, spread_choice
from datamodules.images import list_stems
from datamodules.views import WholeView
from fmawsss.files.foreign_cams import find_maps, read_foreign_cams
from fmawsss.files.images import read_size
from fmawsss.files.json_files import REMAKE, require_file
from fmawsss.files.storage import BROKEN_ARCHIVE, list_cam_classes, read_cams
from fmawsss.files.texts import name_first
from fmawsss.records import Cams

logger = logging.getLogger(__name__)

READ_WHOLE = 100  # files, before any seed is made
LOOKED_AT = 1000  # images whose CAMs are compared with their labels
MAKE_CAMS = "write them with callbacks=cams"
NO_CAMS = Cams(torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64), None)


def check_cams(records: Records, folder: Path, recipes: Sequence[str] | None) -> None:
    """Check that a folder holds the CAMs of every image; a hundred files are read whole.

    Warns of CAMs that do not say where they are from, and of those that lie across their images.

    Raises:
        FileNotFoundError: when one is missing.
        ValueError: for one that is broken, or made by a stage with another recipe.
    """
    others = list_stems(folder, ".npy") - list_stems(folder, ".npz")
    own = [record for record in records if record.name not in others]
    check_products(own, folder, ".npz", "CAMs", MAKE_CAMS)
    chosen = spread_choice(records, READ_WHOLE)
    found = [read_fitting_cams(find_cams(folder, record.name), recipes) for record in chosen]
    if count := len(records) - len(own):
        first = next(record.name for record in records if record.name in others)
        *_, kind = find_maps(find_cams(folder, first))
        logger.info("%s: CAMs of another method (%s), in %d files", folder, kind, count)
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
    cams = read_foreign_cams(path) if path.suffix == ".npy" else read_cams(path)
    if recipes is None or cams.recipe is None or cams.recipe in recipes:
        return cams
    stage, _, numbers = cams.recipe.partition("_")
    own = f"numbers={numbers} (and no recipe=)"
    remedy = own if stage == "cls" else f"recipe=seeds_{cams.recipe}"
    raise ValueError(
        f"CAMs {path} were made by {cams.recipe}, these settings are for {', '.join(recipes)}: add "
        f"{remedy} to take its numbers, or cams_of=[{cams.recipe}] to take these all the same"
    )


def find_cams(folder: Path, name: str) -> Path:
    """Name the file of an image's CAMs: ours, or the dictionary of another method."""
    path, array = folder / f"{name}.npz", folder / f"{name}.npy"
    return array if not path.exists() and array.exists() else path


def find_unlabelled(data: Any, view: WholeView) -> frozenset[str]:
    """Find the images that show no class and have no CAMs, for their seeds are all background.

    data: the data set; where nobody knows its labels, every image needs CAMs.
    """
    if view.cams is None:
        return frozenset()
    folder = Path(view.cams)
    present = list_stems(folder, ".npz") | list_stems(folder, ".npy")
    missing = {record.name for record in data.read_records(view.split)} - present
    known = read_labelled(data, view.split) if missing else []
    found = frozenset(r.name for r in known if r.labels == () and r.name in missing)
    if found:
        logger.info(
            "%d images show no class and need no CAMs: %s", len(found), name_first(sorted(found))
        )
    return found


def read_labelled(data: Any, splits: Splits) -> Records:
    """Read the records of splits with their labels; none where these cannot be read."""
    source = replace(data, labelled=True)
    try:
        return [record for split in name_splits(splits) for record in source.read_split(split)]
    except (FileNotFoundError, ValueError):  # seeds from CAMs need no labels
        return []


def lies_across(cams: Cams, size: tuple[int, int]) -> bool:
    """Say whether CAMs are wider than high and their image is not, or the other way round."""
    height, width = cams.maps.shape[1:]
    return (height - width) * (size[0] - size[1]) < 0


def report_other_classes(
    data: Any, splits: Splits, folder: Path, bare: Collection[str] = ()
) -> None:
    """Warn where CAMs are of other classes than the labels of their image.

    data: the data set; at most a thousand images are looked at, and none of the `bare` ones.
    """
    found = [r for r in read_labelled(data, splits) if r.name not in bare]
    known = spread_choice([r for r in found if r.labels is not None], LOOKED_AT)
    classes = {r.name: read_cam_classes(find_cams(folder, r.name)) for r in known}
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
    if path.suffix == ".npy":
        return {*read_foreign_cams(path).classes.tolist()} - {-1}
    try:
        with np.load(require_file(path), allow_pickle=False) as archive:
            return {*list_cam_classes(archive).tolist()} - {-1}
    except FileNotFoundError:
        raise
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} is broken or holds no CAMs ({error}): {REMAKE}") from error
