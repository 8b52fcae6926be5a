"""Prompts that begin alike, packed into one sequence: the common beginning is encoded once."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn


class Packing(nn.Module):
    """Place the tokens of T prompts of length L in one sequence of R tokens.

    The first `shared` tokens must be the same in all prompts. What follows the end of a prompt
    (EOS) is left out, and no prompt sees another: text attention is causal, so packing is exact.
    Nothing here is learned or stored.
    """

    tokens: Int[Tensor, "R"]  # index into the flattened (T, L) prompts
    positions: Int[Tensor, "R"]
    visible: Tensor  # Bool (R, R)
    ends: Int[Tensor, "T"]  # where each prompt ends in the sequence

    def __init__(self, eos: Int[Tensor, "T"], length: int, shared: int) -> None:
        super().__init__()
        # the shared tokens, then the own ones of every prompt
        steps = torch.arange(length)
        own = (steps >= shared) & (steps <= eos[:, None])
        prompt, position = own.nonzero(as_tuple=True)
        positions = torch.cat([steps[:shared], position])
        prompts = torch.cat([torch.full((shared,), -1), prompt])

        # a token sees the shared ones and those of its own prompt, none behind itself
        same = (prompts[:, None] == prompts) | (prompts == -1)
        self.register_buffer("tokens", prompts.clamp_min(0) * length + positions, persistent=False)
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("visible", same & (positions <= positions[:, None]), persistent=False)
        self.register_buffer("ends", shared + own.sum(dim=1).cumsum(dim=0) - 1, persistent=False)
