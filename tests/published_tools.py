"""The published pipelines at the size of a test: tiny models, one step per stage."""

from __future__ import annotations

import hashlib
from pathlib import Path

TINY = ["clip=tiny", "sam=tiny", "logger=none"]
TOWER = "network@stages.network.network=tower"  # the published Mask2Former has no weights here


def places(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]


def digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def shorten(stages: tuple[str, ...]) -> list[str]:
    """The published pipeline in one step per stage."""
    short = [f"stages.{stage}.data.workers=0" for stage in ("superpixels", *stages)]
    for stage in stages:
        settings = (
            "loop.max_steps=1",
            "data.batch_size=2",
            "data.micro_batches=1",
            "val_every=null",
        )
        short += [f"stages.{stage}.{setting}" for setting in settings]
    short += ["stages.network.loop.precision=32", "stages.network.augment.crop=128"]
    short += [
        f"stages.{stage}.{setting}"
        for stage in ("cls", "seg")
        for setting in ("loop.precision=32", "apply_step=null")
    ]
    return [
        *short,
        *(
            f"stages.superpixels.module.generator.{s}"
            for s in ("points_per_side=2", "crop_n_layers=0")
        ),
    ]
