"""What one watches while a stage learns, beside its losses: rates, gradient norm, memory."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
import torch

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]


class TrainingSignals(L.Callback):
    """Log `train/lr`, `train/gradient_norm`, `train/images_per_second` and `train/memory_gb`.

    The gradient norm is the one before clipping. Rates are those of this process times the number
    of processes, since the line before.
    """

    def __init__(self) -> None:
        self.images = 0
        self.since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.images, self.since = 0, time.monotonic()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm of all gradients together where a line of the log is due."""
        if trainer._logger_connector.should_update_logs:
            norms = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/gradient_norm", torch.stack(norms).norm(), batch_size=1)
            pl_module.log("train/lr", float(optimizer.param_groups[0]["lr"]), batch_size=1)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count images; log the rest where a line is due."""
        self.images += len(batch)
        if (
            trainer.fit_loop._should_accumulate()
            or not trainer._logger_connector.should_update_logs
        ):
            return
        now = time.monotonic()
        rate = self.images * trainer.world_size / max(now - self.since, 1e-9)
        values = {
            "train/images_per_second": rate,
            "train/memory_gb": measure_peak(trainer.strategy.root_device),
        }
        pl_module.log_dict(values, batch_size=1)
        self.images, self.since = 0, now


def measure_peak(device: torch.device) -> float:
    """Return the largest memory so far in GB: of the accelerator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if resource is None:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
