"""What stays out of half precision under autocast: the last, small, decisive products."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def widen(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Turn half precision into float32; leave float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def multiply(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the matrix product, never in half precision."""
    with torch.autocast(left.device.type, enabled=False):
        return widen(left) @ widen(right)
