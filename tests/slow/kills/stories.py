"""What is told: commands in turn, each with those that run beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import infer
import train

PLACES = ["paths.data=FOLDER/data", "paths.outputs=FOLDER/outputs"]
SMALL = [
    "dataset.train_images=4",
    "dataset.val_images=2",
    "loading.workers=0",
    "logger=none",
    *PLACES,
]
PIPELINE = [
    *SMALL,
    "masks.points_per_side=2",
    *(f"stages.{name}.loop.max_steps=4" for name in ("cls", "seg", "network")),
    *(f"stages.{name}.save_every=1" for name in ("cls", "seg", "network")),
    "stages.cls.data.batch_size=2",
    "stages.seg.data.batch_size=2",
    "stages.network.data.batch_size=2",
    "stages.network.val_every=2",
]
CLS = [
    *SMALL,
    "task=cls",
    "data.superpixels=null",
    "writers.seeds.kind=caa",
    "data.predict_batch_size=2",
    "report=none",
]
LEARN = [*CLS, "loop.max_steps=4", "save_every=1", "data.batch_size=2"]


@dataclass(frozen=True)
class Command:
    """A program and its words, FOLDER for where it runs; `twins` are started together with it.

    refused: it may end with 1, since a twin holds the lock.
    """

    main: Callable[[], None]
    words: list[str]
    twins: tuple[Command, ...] = ()
    refused: bool = False


def train_on(words: list[str]) -> Command:
    """Train."""
    return Command(train.main, words)


PIPELINE_ALONE = train_on(PIPELINE)
SHARDS = [Command(infer.main, [*CLS, "split=val", f"shard={n}/2"]) for n in (1, 2)]
SWEEP = [
    "-m",
    *LEARN,
    "seed=0,1",
    "criterion.masks=caa",
    "criterion.split=train",
    "hydra.sweep.dir=FOLDER/sweep",
]
STORIES: dict[str, list[Command]] = {
    "pipeline": [
        PIPELINE_ALONE,
        Command(infer.main, ["task=network", "split=train", "save_as=[coco,voc]", *SMALL]),
    ],
    "published": [train_on([*PIPELINE, "memory=none"])],
    "shards": [
        train_on(LEARN),
        Command(infer.main, SHARDS[0].words, twins=(SHARDS[1],)),
        *SHARDS,
    ],
    "sweep": [train_on(SWEEP)],
    "twins": [Command(train.main, LEARN, twins=(train_on(LEARN),), refused=True), train_on(LEARN)],
}
