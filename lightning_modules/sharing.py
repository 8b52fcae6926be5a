"""Counts that divide a loss, shared by all processes."""

from __future__ import annotations

import lightning as L
from torch import Tensor


def share_count(trainer: L.Trainer, count: Tensor) -> Tensor:
    """Replace a count of this process by the mean over all: together they descend as one would."""
    return trainer.strategy.reduce(count, reduce_op="mean") if trainer.world_size > 1 else count
