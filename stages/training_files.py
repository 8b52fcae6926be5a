"""The checkpoints of an unfinished training: which one to go on from, which to set aside."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from fmawsss.files.tensor_files import read_tensors

PARTS = {"state_dict": dict, "optimizer_states": list, "loops": dict, "global_step": int}

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
    """Say whether every byte of a checkpoint can be read, and a training can go on from it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        content = read_tensors(path, "")
    except (zipfile.BadZipFile, EOFError, ValueError, FileNotFoundError):
        return False  # another process of the training may have set it aside

    # all parts, and weights that are numbers
    if not isinstance(content, dict):
        return False
    parts = all(isinstance(content.get(part), kind) for part, kind in PARTS.items())
    return parts and all(map(is_finite, content["state_dict"].values()))


def is_finite(weight: Any) -> bool:
    """Say whether a weight is a tensor of numbers; a buffer may hold minus infinity."""
    return isinstance(weight, Tensor) and not bool(weight.isnan().any())


def set_aside(path: Path) -> None:
    """Rename a broken checkpoint, once for all processes."""
    aside = path.with_name(f"{path.name}.broken")
    logger.warning("%s is broken: set aside as %s", os.path.relpath(path), aside.name)
    if rank_zero_only.rank == 0:
        path.replace(aside)
