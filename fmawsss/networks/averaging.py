"""The exponential moving average of a network's weights, short as long as few steps are done."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor


def average_weights(
    averaged: Shaped[Tensor, "*shape"],
    current: Shaped[Tensor, "*shape"],
    count: Tensor | int,
    decay: float,
) -> Shaped[Tensor, "*shape"]:
    """Move an average towards the current weights; an `avg_fn` of `torch.optim.swa_utils`.

    The average keeps the share `min(decay, (1 + count) / (10 + count))` of what it was, so that a
    training of a few hundred steps does not end with the weights that it began with.

    count: number of earlier updates.
    """
    kept = min(decay, (1 + int(count)) / (10 + int(count)))
    return kept * averaged + (1 - kept) * current
