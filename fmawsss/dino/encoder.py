"""A DINO of timm, frozen: images to features of CLIP's patch grid, and its attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fmawsss.precision import widen
from fmawsss.scenes import cut_blocks


@dataclass(frozen=True, eq=False)
class Seen:
    """What an encoder makes of images of one grid.

    `attention` is the mean over heads and over the last blocks that were asked for, without tokens
    that are no patches; rows need not sum to one.
    """

    features: Float[Tensor, "B N D"]
    attention: Float[Tensor, "B N N"] | None

    @classmethod
    def join(cls, parts: Sequence[Seen]) -> Seen:
        """Put what was made of some images behind what was made of others."""
        attention = [part.attention for part in parts if part.attention is not None]
        features = torch.cat([part.features for part in parts])
        return cls(features, torch.cat(attention) if attention else None)


class PatchEncoder(nn.Module, ABC):
    """A frozen encoder that describes the patches of any grid; a subclass says how."""

    def train(self, mode: bool = True) -> PatchEncoder:
        """Stay in evaluation mode."""
        return super().train(False)

    @abstractmethod
    def encode(
        self,
        images: Sequence[UInt8[Tensor, "_H _W 3"]],
        grid: tuple[int, int],
        attention_blocks: int,
    ) -> Seen:
        """Describe the patches of a grid (h, w) laid over each whole image.

        `attention` averages the last `attention_blocks` blocks; 0 gives None.
        """


class DinoEncoder(PatchEncoder):
    """A plain vision transformer of timm: DINOv2, DINOv3 and others that take images of any size.

    Images are resized so that its patches are those of the grid, whatever their width.

    Raises:
        ValueError: for a network that is no plain vision transformer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vit: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not isinstance(vit, VisionTransformer | Eva):
            raise ValueError(
                f"{type(vit).__name__} has no one grid of patches; expected a plain vision "
                "transformer of timm, such as vit_base_patch14_dinov2.lvd142m"
            )
        self.vit: Any = vit.eval().requires_grad_(False)  # of two classes that agree on the rest
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @torch.no_grad()
    def encode(
        self,
        images: Sequence[UInt8[Tensor, "_H _W 3"]],
        grid: tuple[int, int],
        attention_blocks: int,
    ) -> Seen:
        """Describe the patches of each image, a bounded number of images at a time."""
        patches = grid[0] * grid[1]
        heads = self.vit.blocks[-1].attn.num_heads
        each = patches * max(4 * self.vit.embed_dim, heads * patches * bool(attention_blocks))
        blocks = cut_blocks(range(len(images)), each)
        some = ([images[number] for number in block] for block in blocks)
        return Seen.join([self._encode_block(part, grid, attention_blocks) for part in some])

    def _encode_block(
        self, images: Sequence[Tensor], grid: tuple[int, int], attention_blocks: int
    ) -> Seen:
        """Describe images side by side."""
        height, width = self.vit.patch_embed.patch_size
        size = (grid[0] * height, grid[1] * width)
        pixels = torch.stack([resize_image(image, size) for image in images])
        pixels = (pixels.to(self.mean) / 255 - self.mean) / self.std

        # the last features, normed, and the attention that leads to them
        blocks = list(self.vit.blocks)[-attention_blocks:] if attention_blocks else []
        with open_attention(blocks) as weights:
            (features,) = self.vit.forward_intermediates(
                pixels, indices=1, norm=True, output_fmt="NLC", intermediates_only=True
            )
        attention = None
        if attention_blocks:
            first = self.vit.num_prefix_tokens
            attention = widen(torch.stack(weights).mean(dim=0)[:, first:, first:])
        return Seen(widen(features), attention)


def resize_image(image: UInt8[Tensor, "H W 3"], size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """Resize an image, bicubic and antialiased; values stay in 0…255."""
    pixels = image.permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
    return resized[0].clamp(0, 255)


@contextmanager
def open_attention(blocks: Sequence[nn.Module]) -> Iterator[list[Float[Tensor, "B L L"]]]:
    """Record the attention weights of blocks of timm, averaged over heads, while they run.

    The weights of one block are held for all heads; fused attention never shows them.
    """
    found: list[Tensor] = []
    attentions: list[Any] = [block.attn for block in blocks]
    fused = [attention.fused_attn for attention in attentions]
    hooks = [
        attention.attn_drop.register_forward_hook(
            lambda module, inputs, weights: found.append(weights.mean(dim=1))
        )
        for attention in attentions
    ]
    try:
        for attention in attentions:
            attention.fused_attn = False
        yield found
    finally:
        for attention, before, hook in zip(attentions, fused, hooks, strict=True):
            attention.fused_attn = before
            hook.remove()
