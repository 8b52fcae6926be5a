"""The checkpoints of an unfinished training: which one to go on from, which to set aside."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

logger = logging.getLogger(__name__)


def find_last_step(folder: Path) -> Path | None:
    """Return the newest checkpoint of an unfinished training; broken ones are set aside."""
    steps = [*folder.glob("stopped_*.ckpt"), *folder.glob("step_*.ckpt")]
    for path in sorted(steps, key=read_step, reverse=True):
        if is_whole(path):
            logger.info("going on from %s", os.path.relpath(path))
            return path
        set_aside(path)
    return None


def read_step(path: Path) -> int:
    """Read the step in the name of a checkpoint."""
    return int(path.stem.rpartition("_")[2])


def is_whole(path: Path) -> bool:
    """Say whether every byte of a checkpoint can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError):
        return False


def set_aside(path: Path) -> None:
    """Rename a broken checkpoint, once for all processes."""
    aside = path.with_name(f"{path.name}.broken")
    logger.warning("%s is broken: set aside as %s", os.path.relpath(path), aside.name)
    if rank_zero_only.rank == 0:
        path.replace(aside)
