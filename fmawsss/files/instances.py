"""The objects of each image, on disk: one npz per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fmawsss.files.json_files import REMAKE
from fmawsss.files.storage import read_archive, write_archive
from fmawsss.text_prompted.instances import Instances

INSTANCES, INSTANCES_VERSION = "fmawsss instances", 1
ARRAYS = ("size", "values", "scores", "boxes", "phrases", "counts", "offsets")


def write_instances(path: Path, instances: Instances, fingerprint: str) -> None:
    """Write the objects of one image."""
    arrays = {name: np.asarray(getattr(instances, name)) for name in ARRAYS}
    arrays["phrases"] = np.array([*instances.phrases], dtype=np.str_)
    stamp = {"fingerprint": np.array(fingerprint)}
    write_archive(path, INSTANCES, INSTANCES_VERSION, {**stamp, **arrays})


def read_instances(path: Path) -> Instances:
    """Read the objects of one image.

    Raises:
        ValueError: naming the file, if it is broken or its arrays do not fit each other.
    """
    arrays = read_archive(path, INSTANCES, INSTANCES_VERSION)
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise ValueError(f"{path} has no array {missing[0]!r}: {REMAKE}")
    height, width = (int(side) for side in arrays["size"])
    counts, offsets = arrays["counts"].astype(np.int64), arrays["offsets"].astype(np.int64)
    sums = np.add.reduceat(counts, offsets[:-1]) if len(counts) else np.zeros(0)
    lengths = {len(arrays[name]) for name in ("values", "scores", "boxes", "phrases")}
    whole = lengths == {len(offsets) - 1} and offsets[-1] == len(counts) and (counts >= 0).all()
    if not whole or (sums != height * width).any():
        raise ValueError(f"{path} holds objects whose masks do not fit their image: {REMAKE}")
    return Instances(
        (height, width),
        torch.from_numpy(arrays["values"].astype(np.int64)),
        torch.from_numpy(arrays["scores"].astype(np.float32)),
        torch.from_numpy(arrays["boxes"].astype(np.float32)),
        arrays["phrases"].tolist(),
        torch.from_numpy(counts.astype(np.int32)),
        torch.from_numpy(offsets),
    )
