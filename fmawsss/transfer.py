"""Tensors brought from a device to the CPU, all of a batch at once: it is waited for once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fetch(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors of one device to the CPU in one piece; those that lie there stay as they are.

    >>> [found.tolist() for found in fetch([torch.tensor([0.5]), torch.tensor([[True], [False]])])]
    [[0.5], [[True], [False]]]
    """
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    return unpack(pack(tensors).cpu(), tensors)


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """Write the bytes of tensors behind one another."""
    return torch.cat([t.contiguous().flatten().view(torch.uint8) for t in tensors])


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Undo `pack`; `like` are tensors of the same types and shapes.

    >>> known = [torch.tensor([True]), torch.arange(3), torch.tensor(0.25)]
    >>> unpack(pack(known), known)
    [tensor([True]), tensor([0, 1, 2]), tensor(0.2500)]
    """
    parts = packed.split([t.numel() * t.element_size() for t in like])
    # a copy begins where numbers of its type may begin
    copies = [part.clone().view(t.dtype) for part, t in zip(parts, like, strict=True)]
    return [copy.view(t.shape) for copy, t in zip(copies, like, strict=True)]
