"""Two bilinear resizes in a row along one axis, as one product with a narrow band of weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

BLOCK = 40  # outputs that share one product: few enough that they see a small part of the input


@dataclass(frozen=True)
class AxisResize:
    """A linear map of the first `source` rows, in blocks of outputs.

    Each block reads the rows from its start on, with its own weights.
    """

    source: int
    starts: tuple[int, ...]
    weights: tuple[Float[Tensor, "_outputs _inputs"], ...]

    def apply(self, maps: Float[Tensor, "M h w"]) -> Float[Tensor, "M H w"]:
        """Resize the rows of some maps."""
        blocks = zip(self.starts, self.weights, strict=True)
        return torch.cat(
            [weights @ maps[:, start : start + weights.shape[1]] for start, weights in blocks],
            dim=1,
        )


@lru_cache(maxsize=128)
def join_resizes(
    source: int, between: int, kept: int, target: int, device: torch.device
) -> AxisResize:
    """Resize `source` rows to `between`, and the first `kept` of these to `target`, like torch.

    Most crops are of few sizes: what was prepared for one is kept on its device for the next.
    """
    weights = weigh_rows(kept, target) @ weigh_rows(source, between)[:kept]
    starts, blocks = [], []
    for block in weights.split(BLOCK):
        seen = block.any(0).nonzero()
        start, stop = int(seen[0]), int(seen[-1]) + 1
        starts.append(start)
        blocks.append(block[:, start:stop].float().contiguous())
    rows = int(weights.any(0).nonzero()[-1]) + 1
    return AxisResize(rows, tuple(starts), tuple(block.to(device) for block in blocks))


def weigh_rows(source: int, target: int) -> Float[Tensor, "target source"]:
    """Write torch's bilinear interpolation along one axis as a matrix."""
    return interpolate(torch.eye(source, dtype=torch.float64)[None], size=target, mode="linear")[
        0
    ].T
