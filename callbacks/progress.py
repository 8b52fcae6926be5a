"""A progress bar per stage that knows its total and the time left."""

from __future__ import annotations

from lightning.pytorch.callbacks import RichProgressBar


class StageProgress(RichProgressBar):
    """Rich's bar, named after the stage, counting towards `max_steps` (training data is endless otherwise)."""

    def __init__(self, stage: str) -> None:
        super().__init__(leave=True)
        self.stage = stage

    @property
    def total_train_batches(self) -> int | float:
        """Count the micro-batches of the whole training."""
        return self.trainer.max_steps * self.trainer.accumulate_grad_batches

    @property
    def predict_description(self) -> str:
        """Name the stage while it is applied."""
        return f"{self.stage}: apply"

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{self.stage}: learn"
