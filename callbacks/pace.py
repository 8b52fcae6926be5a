"""How long a step or an image takes: timed on a few of them, which end when enough is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L

ENOUGH = 8.0  # seconds after which no further step or batch is begun
LEAST = 2  # steps or batches beside the first, which is slower than the others
SLOW = 15.0  # seconds of a first one that is believed alone


class EnoughError(Exception):
    """A prediction was timed long enough."""


def read_clock() -> float:
    """Return the time in seconds."""
    return time.monotonic()


class Pace(L.Callback):
    """Time the optimiser steps of a training, or the images of a prediction.

    cuts: whether a prediction may end before its last image, with `EnoughError`.
    place: where the checkpoint of a training is written, for its size.
    """

    def __init__(self, cuts: bool, place: Path) -> None:
        self.cuts = cuts
        self.place = place
        self.bytes = 0  # of a checkpoint on the way
        self.steps: list[float] = []  # the time at the begin of the first, and at each end
        self.images: list[tuple[int, float]] = []  # how many so far, and the time

    @property
    def seconds_a_step(self) -> float | None:
        """Seconds of an optimiser step; None where none was made."""
        return find_pace(list(enumerate(self.steps)))

    @property
    def seconds_an_image(self) -> float | None:
        """Seconds of an image; None where none was made."""
        return find_pace(self.images)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock when the first batch is there."""
        if not self.steps:
            self.steps.append(read_clock())

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the end of a step, and end the training when enough is known."""
        if trainer.global_step < len(self.steps):
            return  # gradients were only added up
        self.steps.append(read_clock())
        if is_enough(self.steps):
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure what a checkpoint takes."""
        trainer.save_checkpoint(self.place)
        self.bytes = self.place.stat().st_size

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Start the clock when the first batch is there."""
        if not self.images:
            self.images.append((0, read_clock()))

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Note the end of a batch; raises EnoughError where that may end the prediction."""
        self.images.append((self.images[-1][0] + len(batch), read_clock()))
        if self.cuts and is_enough([at for _, at in self.images]):
            raise EnoughError


def is_enough(marks: list[float]) -> bool:
    """Say whether these times, a begin and the ends, tell how long the next ones take.

    >>> is_enough([0.0, 30.0]), is_enough([0.0, 3.0]), is_enough([0.0, 3.0, 6.0, 9.0])
    (True, False, True)
    """
    gone = marks[-1] - marks[0]
    return gone > SLOW or (gone > ENOUGH and len(marks) > LEAST + 1)


def find_pace(marks: list[tuple[int, float]]) -> float | None:
    """Find the seconds for one, from counts and times; the first mark counts where it is alone.

    >>> find_pace([(0, 0.0), (4, 9.0), (8, 11.0)]), find_pace([(0, 0.0), (4, 8.0)]), find_pace([])
    (0.5, 2.0, None)
    """
    if len(marks) < 2:
        return None
    begin, end = marks[min(1, len(marks) - 2)], marks[-1]
    return (end[1] - begin[1]) / (end[0] - begin[0])
