"""Boolean masks of one image as packed bits, eight pixels a byte, on any device."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

# Eight Boolean bytes seen as one integer, times this, hold their bits in the highest byte, the
# first pixel's on top
COLLECT = sum(1 << (63 - 9 * place) for place in range(8)) - (1 << 64)
EVERY_BYTE = 0x0101010101010101
ONE_BIT_PER_BYTE = 0x0102040810204080


def pack_masks(masks: Bool[Tensor, "M H W"]) -> UInt8[Tensor, "M Z"]:
    """Pack masks row by row into bits, the last byte filled up with zeros."""
    flat = masks.flatten(1)
    flat = pad(flat, (0, -flat.shape[1] % 8)).contiguous()
    return ((flat.view(torch.int64) * COLLECT) >> 56).to(torch.uint8)


def unpack_masks(bits: UInt8[Tensor, "M Z"], size: tuple[int, int]) -> Bool[Tensor, "M H W"]:
    """Undo `pack_masks` for an image of `size` (height, width)."""
    return _unpack_flat(bits)[:, : size[0] * size[1]].unflatten(1, size).bool()


def count_bits(bits: UInt8[Tensor, "M Z"]) -> Int64[Tensor, "M"]:
    """Count the pixels of every mask."""
    pairs = bits - ((bits >> 1) & 0x55)
    fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return ((fours + (fours >> 4)) & 0x0F).sum(1, dtype=torch.int64)


def count_overlaps(
    bits: UInt8[Tensor, "M Z"], rows: slice, columns: slice, chunk_bytes: int = 1 << 9
) -> Int64[Tensor, "I J"]:
    """Count the pixels that every mask of `rows` shares with every mask of `columns`.

    One matrix product per `chunk_bytes` of the image, exact in float32: a chunk has far fewer than
    2**24 pixels.
    """
    overlaps = torch.zeros(
        len(bits[rows]), len(bits[columns]), dtype=torch.int64, device=bits.device
    )
    for chunk in bits.split(chunk_bytes, dim=1):
        pixels = _unpack_flat(chunk).float()
        overlaps += (pixels[rows] @ pixels[columns].T).long()
    return overlaps


def _unpack_flat(bits: UInt8[Tensor, "M Z"]) -> UInt8[Tensor, "M X"]:
    """Spread every byte over eight bytes of 0 or 1."""
    apart = (bits.long() * EVERY_BYTE) & ONE_BIT_PER_BYTE
    return apart.view(torch.uint8).view(len(bits), 8 * bits.shape[1]).clamp_max(1)
