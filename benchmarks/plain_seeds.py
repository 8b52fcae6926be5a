"""From CAMs to seeds as first written, straight from METHOD 5-7: slow, obvious, the same seeds."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from fmawsss.superpixels import Superpixels


def score(cams: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
    """Clip at 0 and stretch each class to 0…1."""
    clipped = cams.clamp_min(0)
    low = clipped.flatten(1).min(dim=1).values.view(-1, *[1] * (cams.ndim - 1))
    high = clipped.flatten(1).max(dim=1).values.view(-1, *[1] * (cams.ndim - 1))
    return (clipped - low) / (high - low + 1e-7)


def mask_boxes(score: Float[Tensor, "h w"], threshold: float) -> Bool[Tensor, "h w"]:
    """Fill the bounding box of every contour above the threshold."""
    grey = (score.cpu().numpy() * 255).astype(np.uint8)
    _, bright = cv2.threshold(grey, int(threshold * int(grey.max())), 255, cv2.THRESH_BINARY)
    mask = torch.zeros(score.shape, dtype=torch.bool)
    for contour in cv2.findContours(bright, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]:
        left, top, width, height = cv2.boundingRect(contour)
        right, bottom = min(left + width, score.shape[1] - 1), min(top + height, score.shape[0] - 1)
        mask[top:bottom, left:right] = True
    return mask.to(score.device)


def refine(
    cams: Float[Tensor, "P h w"],
    values: Float[Tensor, "P h w"],
    attention: Float[Tensor, "blocks L L"],
    iterations: int,
    threshold: float,
    power: int,
) -> Float[Tensor, "P h w"]:
    """Spread values by CAA: a power of the whole affinity, a full mask for every class."""
    affinity = attention[-8:, 1:, 1:].mean(dim=0)
    for _ in range(iterations):
        affinity = affinity / affinity.sum(dim=0, keepdim=True)
        affinity = affinity / affinity.sum(dim=1, keepdim=True)
    affinity = (affinity + affinity.T) / 2
    affinity = torch.linalg.matrix_power(affinity, power)
    boxes = torch.stack([mask_boxes(each, threshold) for each in score(cams)]).flatten(1)
    masks = boxes[:, None].expand(-1, len(affinity), -1).to(affinity.dtype)  # (P, N, N)
    return ((affinity[None] * masks) @ values.flatten(1)[:, :, None])[..., 0].view_as(cams)


def decode(superpixels: Superpixels) -> Bool[Tensor, "M H W"]:
    """Decode the masks one by one."""
    height, width = superpixels.size
    counts, offsets = superpixels.counts.numpy(), superpixels.offsets.tolist()
    masks = []
    for first, last in pairwise(offsets):
        runs = counts[first:last]
        masks.append(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T)
    return torch.from_numpy(np.stack(masks))


def paint_seed(
    cams: Float[Tensor, "P h w"], classes: Int[Tensor, "P"], superpixels: Superpixels, power: float
) -> tuple[UInt8[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Make the seed by SAMS and its confidence: every mask times every CAM, then mask over mask."""
    masks = decode(superpixels)
    maps = F.interpolate(
        cams[None].cpu(), size=superpixels.size, mode="bilinear", align_corners=False
    )[0].clamp_min(0)
    under = maps[:, None] * masks[None]  # (P, M, H, W)
    scores = score(under.sum(dim=(2, 3)) / masks.sum(dim=(1, 2)))
    scores = torch.cat([(1 - scores.max(dim=0).values[None]) ** power, scores])
    confidence, best = scores.max(dim=0)
    labels = (
        torch.cat([classes.new_zeros(1), classes + 1])[best.to(classes.device)]
        .to(torch.uint8)
        .cpu()
    )

    seed, sure = torch.zeros(superpixels.size, dtype=torch.uint8), torch.zeros(superpixels.size)
    order = sorted(
        range(len(masks)), key=lambda mask: (int(superpixels.level[mask]), float(confidence[mask]))
    )
    for mask in order:
        seed[masks[mask]], sure[masks[mask]] = labels[mask], confidence[mask]
    return seed, sure
