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
    of processes, since the line before. Ours because Lightning's monitors log under their own
    names, need a logger, ask each module for its FLOPs, or log every counter of the allocator.
    """

    def __init__(self) -> None:
        self.images = 0
        self.since = 0.0
        self.steps = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.images, self.since = 0, time.monotonic()
        self.steps = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm of all gradients together where a line of the log is due."""
        if is_line_due(trainer, trainer.global_step + 1):
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
        # gradients that are only added up make no step
        self.images += len(batch)
        accumulates = trainer.global_step == self.steps
        self.steps = trainer.global_step
        if accumulates or not is_line_due(trainer, trainer.global_step):
            return

        # rate since the line before
        now = time.monotonic()
        rate = self.images * trainer.world_size / max(now - self.since, 1e-9)
        self.images, self.since = 0, now
        memory = measure_peak(trainer.strategy.root_device)
        values = {"train/images_per_second": rate, "train/memory_gb": memory}
        pl_module.log_dict(values, batch_size=1)


def is_line_due(trainer: L.Trainer, step: int) -> bool:
    """Say whether the trainer writes a line of the log at an optimizer step, counted from 1."""
    every = trainer.log_every_n_steps
    return every > 0 and (step % every == 0 or trainer.should_stop)


def measure_peak(device: torch.device) -> float:
    """Return the largest memory so far in GB: of the accelerator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if resource is None:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
