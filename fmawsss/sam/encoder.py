"""How SAM's image encoder runs: fused attention in pieces, in any precision, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float32
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

EncoderWrapper: TypeAlias = Callable[[nn.Module], nn.Module]


class FusedEncoder(nn.Module):
    """The same numbers as the encoder itself, up to rounding, with torch's fused attention.

    An encoder that is no ViT of SAM's runs as it is.

    Args:
        dtype: of matrix products, by autocast; float32 is exact.
        bias_numbers: how many numbers of relative-position bias are made at once; a global layer
            of SAM has 2e8 and more.
        compile: wraps the whole pass, e.g. `torch.compile`; None leaves it as it is.
    """

    def __init__(
        self,
        encoder: nn.Module,
        dtype: torch.dtype,
        bias_numbers: int,
        compile: Callable[..., Callable[[Tensor], Tensor]] | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dtype = dtype
        self.bias_numbers = bias_numbers
        self._run = compile(self._encode) if compile else self._encode

    def forward(self, images: Float32[Tensor, "B 3 S S"]) -> Float32[Tensor, "B D h w"]:
        """Encode images that SAM has normalised and padded."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._run(images).float()

    def _encode(self, images: Tensor) -> Tensor:
        if not isinstance(self.encoder, ImageEncoderViT):
            return self.encoder(images)
        maps = self.encoder.patch_embed(images)
        if self.encoder.pos_embed is not None:
            maps = maps + self.encoder.pos_embed
        for block in self.encoder.blocks:
            maps = run_encoder_block(block, maps, self.bias_numbers)
        return self.encoder.neck(maps.permute(0, 3, 1, 2))


def run_encoder_block(
    block: Block, maps: Float[Tensor, "B h w D"], bias_numbers: int
) -> Float[Tensor, "B h w D"]:
    """Run one block of the encoder, in windows if it has them."""
    # attention
    normed, size = block.norm1(maps), (maps.shape[1], maps.shape[2])
    if block.window_size:
        windows, padded = window_partition(normed, block.window_size)
        attended = window_unpartition(
            attend_map(block.attn, windows, bias_numbers), block.window_size, padded, size
        )
    else:
        attended = attend_map(block.attn, normed, bias_numbers)

    # the perceptron
    maps = maps + attended
    return maps + block.mlp(block.norm2(maps))


def attend_map(
    attention: Attention, maps: Float[Tensor, "B h w D"], bias_numbers: int
) -> Float[Tensor, "B h w D"]:
    """Attend with the relative-position bias, some rows of the map at a time."""
    # queries, keys and values
    batch, height, width, _ = maps.shape
    heads = attention.num_heads
    qkv = attention.qkv(maps).view(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys, values = qkv.unbind(0)

    # attention, in pieces where a bias goes with it
    if not attention.use_rel_pos:
        attended = scaled_dot_product_attention(queries, keys, values)
    else:
        tables = (
            get_rel_pos(height, height, attention.rel_pos_h),
            get_rel_pos(width, width, attention.rel_pos_w),
        )
        rows = max(1, bias_numbers // (batch * heads * width * height * width))
        places = queries.unflatten(2, (height, width))
        attended = torch.cat(
            [
                scaled_dot_product_attention(
                    part.flatten(2, 3), keys, values, make_bias(part, table, tables[1])
                )
                for part, table in zip(places.split(rows, 2), tables[0].split(rows), strict=True)
            ],
            dim=2,
        )
    return attention.proj(attended.transpose(1, 2).reshape(batch, height, width, -1))


def make_bias(
    queries: Float[Tensor, "B heads y w d"],
    rows: Float[Tensor, "y h d"],
    columns: Float[Tensor, "w w d"],
) -> Float[Tensor, "B heads n N"]:
    """Compare queries with the embeddings of how far down and across every other place lies."""
    down = torch.einsum("bnyxd,ykd->bnyxk", queries, rows)
    across = torch.einsum("bnyxd,xkd->bnyxk", queries, columns)
    return (down[..., None] + across[..., None, :]).flatten(4, 5).flatten(2, 3)
