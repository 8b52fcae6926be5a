"""Position embeddings of another patch grid than the one of the pretraining."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resize_positions(
    positions: Float[Tensor, "h w D"], size: tuple[int, int]
) -> Float[Tensor, "h2 w2 D"]:
    """Resize a grid of position embeddings bilinearly (align_corners false)."""
    if tuple(positions.shape[:2]) == size:
        return positions
    resized = F.interpolate(
        positions.permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False
    )
    return resized[0].permute(1, 2, 0)
