"""Boolean masks of one image as packed bits, eight pixels a byte: an eighth of the memory, quick to pack on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

ONES_IN_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)


def pack_masks(masks: Bool[Tensor, "M H W"]) -> UInt8[Tensor, "M Z"]:
    """Pack masks row by row into bits on the CPU, the last byte filled up with zeros."""
    return torch.from_numpy(np.packbits(masks.flatten(1).cpu().numpy(), axis=1))


def unpack_masks(bits: UInt8[Tensor, "M Z"], size: tuple[int, int]) -> Bool[Tensor, "M H W"]:
    """Undo `pack_masks` for an image of `size` (height, width)."""
    flat = np.unpackbits(bits.numpy(), axis=1, count=size[0] * size[1])
    return torch.from_numpy(flat).view(torch.bool).view(-1, *size)


def count_areas(bits: UInt8[Tensor, "M Z"]) -> Int64[Tensor, "M"]:
    """Count the pixels of every mask."""
    return torch.from_numpy(ONES_IN_BYTE[bits.numpy()].sum(1, dtype=np.int64))


def count_overlaps(
    bits: UInt8[Tensor, "M Z"], rows: slice, columns: slice, chunk_bytes: int = 1 << 9
) -> Int64[Tensor, "I J"]:
    """Count the pixels that every mask of `rows` shares with every mask of `columns`.

    One matrix product per `chunk_bytes` of the image, exact in float32: a chunk has far fewer than 2**24 pixels.
    """
    overlaps = torch.zeros(len(bits[rows]), len(bits[columns]), dtype=torch.int64)
    for chunk in bits.split(chunk_bytes, dim=1):
        pixels = torch.from_numpy(np.unpackbits(chunk.numpy(), axis=1)).float()
        overlaps += (pixels[rows] @ pixels[columns].T).long()
    return overlaps
