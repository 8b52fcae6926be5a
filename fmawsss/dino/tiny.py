"""The tiny SAM's image encoder in the part of DINO, for generated images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Block
from torch import Tensor

from fmawsss.dino.encoder import PatchEncoder, Seen, resize_image
from fmawsss.precision import widen
from fmawsss.tiny.models import tiny_sam


class SamEncoder(PatchEncoder):
    """The image encoder of a SAM, whose last blocks see the whole image without position bias.

    SAM's own grid lies over the image enlarged to its one size and padded; features and attention
    are read from it bilinearly at the centres of the cells of the grid that is asked for, and rows
    of attention sum to one again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder: ImageEncoderViT = sam.image_encoder.eval().requires_grad_(False)
        self.register_buffer("mean", sam.pixel_mean.clone(), persistent=False)
        self.register_buffer("std", sam.pixel_std.clone(), persistent=False)

    @torch.no_grad()
    def encode(
        self,
        images: Sequence[UInt8[Tensor, "_H _W 3"]],
        grid: tuple[int, int],
        attention_blocks: int,
    ) -> Seen:
        """Describe the patches of each image, one after the other: the encoder is small."""
        return Seen.join([self._encode_image(image, grid, attention_blocks) for image in images])

    def _encode_image(self, image: Tensor, grid: tuple[int, int], attention_blocks: int) -> Seen:
        # the image, its longer side as long as SAM's
        side = self.encoder.img_size
        scale = side / max(image.shape[:2])
        size = (round(scale * image.shape[0]), round(scale * image.shape[1]))
        pixels = (resize_image(image.to(self.mean.device), size) - self.mean) / self.std
        pixels = F.pad(pixels, (0, side - size[1], 0, side - size[0]))[None]

        # its features, and the attention of the last blocks
        maps = self.encoder.patch_embed(pixels)
        if self.encoder.pos_embed is not None:
            maps = maps + self.encoder.pos_embed
        weights = []
        blocks = cast(list[Block], list(self.encoder.blocks))
        for number, block in enumerate(blocks):
            if number >= len(blocks) - attention_blocks and not block.window_size:
                weights.append(weigh_patches(block, maps))
            maps = block(maps)
        features = self.encoder.neck(maps.permute(0, 3, 1, 2)).flatten(2)[0].T

        # on the grid that is asked for
        own = (maps.shape[1], maps.shape[2])
        places = place_cells(grid, own, (size[0] / side, size[1] / side)).to(features.device)
        described = (places @ widen(features))[None]
        if not weights:
            return Seen(described, None)
        attention = places @ widen(torch.stack(weights).mean(dim=0)) @ places.T
        return Seen(described, (attention / attention.sum(dim=1, keepdim=True))[None])


def weigh_patches(block: Block, maps: Float[Tensor, "1 h w D"]) -> Float[Tensor, "N N"]:
    """Compute the attention weights of a block of SAM without position bias, mean over heads."""
    attention = block.attn
    projected = attention.qkv(block.norm1(maps)).flatten(1, 2)
    queries, keys, _ = projected.unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    logits = torch.einsum("bnhd,bmhd->bhnm", attention.scale * queries, keys)
    return logits.softmax(dim=-1).mean(dim=1)[0]


def place_cells(
    grid: tuple[int, int], own: tuple[int, int], covered: tuple[float, float]
) -> Float[Tensor, "N n"]:
    """Weigh the cells of a map for the centre of each cell of a grid, bilinearly; rows sum to 1.

    The grid lies over the `covered` part (of height, of width) of the map, from its first corner.
    """
    rows = (torch.arange(grid[0]) + 0.5) / grid[0] * covered[0] * 2 - 1
    columns = (torch.arange(grid[1]) + 0.5) / grid[1] * covered[1] * 2 - 1
    centres = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    cells = torch.eye(own[0] * own[1]).view(1, -1, *own)
    weights = F.grid_sample(cells, centres[None], padding_mode="border", align_corners=False)
    return weights[0].flatten(1).T


def tiny_encoder() -> SamEncoder:
    """Load the tiny SAM that ships with the project as an encoder of patches."""
    return SamEncoder(tiny_sam())
