"""What the superpixel benchmark works on: a SAM of random weights, an image, made-up masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.inputs import CONF

SETTINGS: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "masks.yaml").published)
RECALL = SETTINGS.pop("recall_threshold")  # of the rock-sand-water filter
# what segment_anything knows as well: it has no offsets, and no other predictor
OURS = {"_target_", "_partial_", "predictor", "iou_offsets", "nms_offsets", "stability_offsets"}
PUBLISHED = {key: value for key, value in SETTINGS.items() if key not in OURS}


@dataclass(frozen=True)
class Sizes:
    """Dimensions of a SAM, of the image, and how much is timed."""

    side: int
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    prompt_width: int
    image: tuple[int, int]
    points: int  # of the batch that is timed
    masks: int  # that an image ends with, before the filter


VIT_B = Sizes(1024, 768, 12, 12, (2, 5, 8, 11), 256, (375, 500), 64, 300)
VIT_H = Sizes(1024, 1280, 32, 16, (7, 15, 23, 31), 256, (375, 500), 64, 300)
QUICK = Sizes(128, 32, 2, 2, (1,), 64, (60, 80), 4, 12)


def build_sam(sizes: Sizes) -> Sam:
    """Build a SAM of random weights whose masks are smooth; `calibrate_sam` sets how many pass."""
    torch.manual_seed(0)
    grid = sizes.side // 16
    encoder = ImageEncoderViT(
        img_size=sizes.side,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        out_chans=sizes.prompt_width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14 if grid > 14 else 3,
        global_attn_indexes=sizes.global_blocks,
    )
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=sizes.prompt_width, num_heads=8, mlp_dim=2048
    )
    decoder = MaskDecoder(transformer_dim=sizes.prompt_width, transformer=transformer)
    prompts = PromptEncoder(
        sizes.prompt_width, (grid, grid), (sizes.side, sizes.side), mask_in_chans=16
    )
    return smooth_masks(Sam(encoder, prompts, decoder))


def smooth_masks(sam: Sam) -> Sam:
    """Let a SAM of random weights draw smooth masks."""
    sam = sam.eval().requires_grad_(False)
    upscaling = sam.mask_decoder.output_upscaling
    for layer in (upscaling[0], upscaling[3]):
        layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
    return sam


def calibrate_sam(sam: Sam, iou: Tensor, logits: Tensor) -> None:
    """Let half of a sample pass the published predicted IoU, and half of all masks be stable."""
    head = sam.mask_decoder.iou_prediction_head.layers[-1]
    head.bias.add_(
        PUBLISHED["pred_iou_thresh"] - iou.quantile(0.5)
    )  # between two masks, never at one
    scale = find_scale(logits.flatten(1))
    for network in sam.mask_decoder.output_hypernetworks_mlps:
        network.layers[-1].weight.mul_(scale)
        network.layers[-1].bias.mul_(scale)


def find_scale(logits: Tensor) -> float:
    """Find the factor on logits that makes half of the masks stable: the steeper, the stabler."""
    low, high = 1e-3, 1e6
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        above, below = ((middle * logits > margin).sum(1) for margin in (1.0, -1.0))
        stable = (above / below.clamp_min(1) >= PUBLISHED["stability_score_thresh"]).float().mean()
        low, high = (low, middle) if stable > 0.5 else (middle, high)
    return high


def draw_image(size: tuple[int, int]) -> np.ndarray:
    """Draw smooth random colours."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    smooth = interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 1)
    return (255 * smooth).byte().permute(1, 2, 0).contiguous().numpy()


def draw_masks(amount: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Draw ragged ellipses, smaller the lower their level; the levels are dealt in turn."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.arange(amount) % 3
    centres = torch.rand(amount, 2, 1, 1, generator=generator)
    radii = (0.05 + 0.12 * levels)[:, None, None] * (
        0.5 + torch.rand(amount, 1, 1, generator=generator)
    )
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij"
    )
    noise = interpolate(
        torch.randn(amount, 1, 24, 32, generator=generator), size=size, mode="bilinear"
    )[:, 0]
    distance = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2).sqrt()
    return distance < radii * (1 + 0.2 * noise), levels
