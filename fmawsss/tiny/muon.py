"""Muon for the matrices of a transformer: orthogonal momentum, so that all directions learn alike.

Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks". It needs about half
the steps of AdamW here. PyTorch's own works in bfloat16, which CPUs without such instructions
emulate, and takes a matrix at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

# of the quintic that pushes singular values from 0…1 to about 1 in five rounds
LINEAR, CUBIC, QUINTIC, ROUNDS = 3.4445, -4.7750, 2.0315, 5


class Muon(torch.optim.Optimizer):
    """Descend along orthogonal momentum; stacked queries, keys and values are three matrices."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices, those of one shape together."""
        for group in self.param_groups:
            # Where each matrix wants to go
            shapes = defaultdict(list)
            for parameter in group["params"]:
                trace = self.state[parameter].setdefault("trace", torch.zeros_like(parameter))
                trace.mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad + group["momentum"] * trace
                for part, direction in zip(cut_square(parameter), cut_square(ahead), strict=True):
                    shapes[part.shape].append((part, direction))

            # Where it goes
            for (rows, columns), pairs in shapes.items():
                moves = orthogonalise(torch.stack([direction for _, direction in pairs]))
                for (part, _), move in zip(pairs, moves, strict=True):
                    part.mul_(1 - group["lr"] * group["weight_decay"])
                    part.sub_(move, alpha=group["lr"] * max(1, rows / columns) ** 0.5)


def cut_square(matrix: Float[Tensor, "R C"]) -> tuple[Tensor, ...]:
    """Cut three square matrices that lie over one another apart; leave others whole."""
    rows, columns = matrix.shape
    return matrix.chunk(3) if rows == 3 * columns else (matrix,)


def orthogonalise(matrices: Float[Tensor, "n R C"]) -> Float[Tensor, "n R C"]:
    """Bring all singular values near 1 (about 0.7 to 1.2) by Newton-Schulz rounds.

    Singular vectors stay as they are.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = LINEAR * x + (CUBIC * gram + QUINTIC * gram @ gram) @ x
    return x.mT if tall else x
