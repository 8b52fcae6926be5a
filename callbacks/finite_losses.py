"""Stop a training whose losses or weights are no numbers, before anything of it is saved."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from callbacks.training_signals import is_line_due
from fmawsss.files.tensor_files import require_finite

REMEDY = "nothing of it is saved; lower learning.optimizer.lr, or set precision=32-true"


class FiniteLosses(L.Callback):
    """Raise ValueError with the first step whose loss is NaN or infinite.

    On an accelerator the losses are looked at where a line of the log is due, and before anything
    is saved: each look waits for it.
    """

    def __init__(self) -> None:
        self.first: torch.Tensor | None = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the first step with such a loss."""
        loss = outputs["loss"]
        step = torch.full_like(loss, trainer.global_step, dtype=torch.int64)
        now = torch.where(loss.isfinite(), -1, step)
        self.first = now if self.first is None else torch.where(self.first < 0, now, self.first)
        if loss.device.type == "cpu" or is_line_due(trainer, trainer.global_step):
            self._look()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before a checkpoint is written."""
        self._look()
        self._check_weights(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before the product is written."""
        self._look()
        self._check_weights(trainer, pl_module)

    def _look(self) -> None:
        if self.first is not None and self.first >= 0:
            raise ValueError(
                f"the loss of step {int(self.first)} is no number (NaN or infinity): training "
                f"stops, {REMEDY}"
            )

    def _check_weights(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        learned = [(n, p.detach()) for n, p in pl_module.named_parameters() if p.requires_grad]
        try:
            require_finite(learned)
        except ValueError as error:
            raise ValueError(
                f"after step {trainer.global_step} of the training {error}: it stops, {REMEDY}"
            ) from None
