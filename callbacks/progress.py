"""Progress of a stage: a bar with the time left on a terminal, lines in logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console

logger = logging.getLogger(__name__)

SOON = 10  # seconds before the first line
QUIET = 60  # seconds between two lines


def follow_progress(stage: str, action: str, stages: Sequence[str]) -> ProgressBar:
    """Choose how to show progress; `stages` are all of the run, `action` names a prediction."""
    title = f"{stages.index(stage) + 1}/{len(stages)} {stage}" if len(stages) > 1 else stage
    return StageProgress(title, action) if Console().is_terminal else StageLines(title, action)


def count_train_batches(trainer: L.Trainer) -> int:
    """Count the micro-batches of the whole training (training data is endless)."""
    return trainer.max_steps * trainer.accumulate_grad_batches


class StageProgress(RichProgressBar):
    """Rich's bar, named after the stage and its place in the pipeline, counting to `max_steps`."""

    def __init__(self, title: str, action: str) -> None:
        super().__init__(leave=True)
        self.title = title
        self.action = action

    @property
    def total_train_batches(self) -> int | float:
        """Count the micro-batches of the whole training."""
        return count_train_batches(self.trainer)

    @property
    def predict_description(self) -> str:
        """Name the stage while it predicts."""
        return f"{self.title}: {self.action}"

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning has a public name for this text of predictions only
        return f"{self.title}: learn"


class StageLines(ProgressBar):
    """Log soon how long a stage will take, then once a minute how far it is: for logs and CI.

    The first batch is slower than the others, and does not count.
    """

    def __init__(self, title: str, action: str) -> None:
        super().__init__()
        self.title = title
        self.action = action
        self.first: int | None = None  # how many batches were done when the clock was started
        self.started = self.told = 0.0

    def disable(self) -> None:
        """Lines hold up nothing."""

    def enable(self) -> None:
        """Lines need no preparation."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the first batch."""
        self._start()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the first batch."""
        self._start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Tell of the training, with its loss."""
        if self._is_due(batch_idx + 1):
            metrics = trainer.progress_bar_metrics.items()
            shown = ", ".join(f"{name} {float(value):.3g}" for name, value in metrics)
            done = trainer.fit_loop.total_batch_idx + 1  # over all epochs
            self._tell("learn", done, count_train_batches(trainer), shown)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Tell of the prediction."""
        if self._is_due(batch_idx + 1):
            batches = int(trainer.num_predict_batches[dataloader_idx])
            self._tell(self.action, batch_idx + 1, batches, "")

    def _start(self) -> None:
        self.first = None
        self.told = time.monotonic() - QUIET + SOON

    def _is_due(self, done: int) -> bool:
        """Say whether a line is due; the first batch only starts the clock."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
            return False
        return now - self.told > QUIET

    def _tell(self, action: str, done: int, batches: int, losses: str) -> None:
        """Log the share that is done, the time left, and the losses."""
        # What is left, at the pace so far
        assert self.first is not None
        self.told = time.monotonic()
        each = (self.told - self.started) / max(1, done - self.first)
        left = timedelta(seconds=round(each * (batches - done)))

        # The line
        details = f", {losses}" if losses else ""
        share = 100 * done // batches
        logger.info(
            "%s: %s %d of %d (%d%%), %s left%s",
            self.title,
            action,
            done,
            batches,
            share,
            left,
            details,
        )
