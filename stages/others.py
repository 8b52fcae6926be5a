"""Which photos a folder of results is of, and where masks of those of another folder go."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fmawsss.files.json_files import read_json
from stages.reports.overviews import NAMES
from stages.reports.report import STAGES_FILE

logger = logging.getLogger(__name__)


def choose_others(work: Path, stage: str, photos: Path) -> str:
    """Name the folder for masks of photos, `/NAME` below `masks/`; "" where results are theirs.

    Raises:
        ValueError: when masks of a third folder of that name lie there.
    """
    # What is known of the results
    path = work / STAGES_FILE
    known = list_photos(work, read_json(path) if path.is_file() else {})
    own = [folder for name, folder in known.items() if "/" not in name]
    if not own or is_same(photos, own[-1]):
        return ""

    # A folder of their own
    name = name_others(photos, own[-1])
    there = known.get(f"{stage}/{name}", photos)
    if not is_same(photos, there):
        raise ValueError(
            f"{work}/masks/{name} holds masks of {there}: rename one of both folders, or choose "
            f"another paths.work for {photos}"
        )
    logger.info("these are not the photos of %s: masks go to masks/%s", work, name)
    return f"/{name}"


def list_photos(work: Path, notes: dict[str, Any]) -> dict[str, Path]:
    """List the folders of photos by the stages that noted them, the newest last.

    They are noted as seen from the results: a copy of both knows the copy.
    """
    entries = {name: list(splits.values())[-1] for name, splits in notes.items()}
    noted = {name: entry["photos"] for name, entry in entries.items() if "photos" in entry}
    return {name: (work / folder).resolve() for name, folder in noted.items()}


def is_same(photos: Path, noted: Path) -> bool:
    """Say whether a folder is one that was noted, or that one after a move."""
    moved = photos.name == noted.name and not noted.exists()
    return moved or photos.resolve() == noted


def name_others(photos: Path, own: Path) -> str:
    """Name the masks of a folder after it, with what lies above it where that is `own`."""
    parts = [photos.name or "photos"]
    if photos.resolve().is_relative_to(own):
        parts = [own.name, *photos.resolve().relative_to(own).parts]
    name = "_".join(parts).replace("${", "_{")
    return f"{name}_photos" if name in NAMES else name
