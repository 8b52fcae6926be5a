"""A progress bar per stage that knows its total and the time left; quiet where nobody watches."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class StageProgress(RichProgressBar):
    """Rich's bar, named after the stage, counting towards `max_steps` (training is endless otherwise)."""

    def __init__(self, stage: str, refresh_rate: int) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)
        self.stage = stage

    @property
    def total_train_batches(self) -> int | float:
        """Batches to come, the micro-batches of an accumulated step counted each."""
        trainer: L.Trainer = self.trainer
        return trainer.max_steps * trainer.accumulate_grad_batches

    @property
    def predict_description(self) -> str:
        """Name the stage while it is applied."""
        return self.stage

    def _get_train_description(self, current_epoch: int) -> str:
        return self.stage
