"""Learning rates: a constant warm-up, then a cosine to zero (published, METHOD 8); and poly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(step: int, warmup: int, total: int, base_lr: float, warmup_lr: float) -> float:
    """Return the learning rate of a step, counted from 0; it is 0 from `total` on.

    >>> [warmup_cosine(step, warmup=1, total=3, base_lr=1.0, warmup_lr=0.1) for step in range(4)]
    [0.1, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return warmup_lr
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return 0.5 * base_lr * (1 + math.cos(math.pi * progress))


def warmup_cosine_schedule(
    optimizer: Optimizer, warmup: int, total: int, warmup_lr: float
) -> LambdaLR:
    """Schedule every parameter group from its own learning rate; step it after the optimizer."""
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    factors: list[Callable[[int], float]] = [
        partial(_compute_factor, warmup, total, rate, warmup_lr) for rate in rates
    ]
    return LambdaLR(optimizer, factors)


def _compute_factor(warmup: int, total: int, base_lr: float, warmup_lr: float, step: int) -> float:
    return warmup_cosine(step, warmup, total, base_lr, warmup_lr) / base_lr


def poly_schedule(optimizer: Optimizer, total: int, power: float) -> LambdaLR:
    """Let every learning rate fall as `(1 - step / total) ** power`, without a warm-up."""
    return LambdaLR(optimizer, partial(_compute_poly, total, power))


def _compute_poly(total: int, power: float, step: int) -> float:
    return (1 - min(step / total, 1.0)) ** power
