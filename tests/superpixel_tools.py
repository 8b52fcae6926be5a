"""Make superpixel records from plain masks."""

from __future__ import annotations

import torch
from torch import Tensor

from fmawsss.superpixels import Superpixels, encode_masks


def make_superpixels(masks: Tensor, levels: Tensor) -> Superpixels:
    """Make the record of masks; what SAM would say of them is left at 0."""
    number, height, width = masks.shape
    counts, offsets = encode_masks(masks)
    nothing = torch.zeros(number)
    boxes = torch.zeros(number, 4, dtype=torch.int64)
    return Superpixels(
        size=(height, width),
        level=levels.to(torch.uint8),
        area=masks.sum((1, 2)),
        box=boxes,
        predicted_iou=nothing,
        stability=nothing,
        point=torch.zeros(number, 2, dtype=torch.float64),
        crop=boxes,
        counts=counts,
        offsets=offsets,
    )


def draw_blobs(generator: torch.Generator, number: int, size: tuple[int, int]) -> Tensor:
    """Draw masks of random size and ragged shape; none is empty."""
    noise = torch.randn(number, 1, 5, 6, generator=generator)
    noise = torch.nn.functional.interpolate(noise, size=size, mode="bilinear")[:, 0]
    peak = noise.amax((1, 2), keepdim=True)
    return noise >= peak * torch.rand(number, 1, 1, generator=generator).clamp(0.2, 0.9)
