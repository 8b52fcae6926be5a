"""One loaded image, and how several of them become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fmawsss.metrics import IGNORE
from fmawsss.records import Batch, Cams
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it, and what is known about it.

    `image` is normalised; `padding` marks pixels outside the picture (right and below), where
    `image` is 0 and `seed` is 255. `confidence` says how sure the seed is, 0 to 255; `clearance`
    how far pixels are from the outlines of superpixels. `size` is the height and width that
    `superpixels` and `original` share; the image on disk may be larger, and `truth` with it.
    """

    name: str
    image: Float[Tensor, "3 H W"]
    size: tuple[int, int]
    on_disk: tuple[int, int] | None = None
    padding: Bool[Tensor, "H W"] | None = None
    labels: Bool[Tensor, "C"] | None = None
    seed: UInt8[Tensor, "H W"] | None = None
    confidence: UInt8[Tensor, "H W"] | None = None
    clearance: UInt8[Tensor, "H W"] | None = None
    trusted: Bool[Tensor, "H W"] | None = None
    truth: UInt8[Tensor, "A B"] | None = None
    superpixels: Superpixels | None = None
    cams: Cams | None = None
    original: UInt8[np.ndarray, "A B 3"] | None = None


def collate_samples(samples: Sequence[Sample]) -> Batch:
    """Join samples of one kind into a batch, padded to the largest height and width among them.

    >>> small, large = (Sample(n, torch.ones(3, s, s), (s, s)) for n, s in (("a", 2), ("b", 4)))
    >>> batch = collate_samples([small, large])
    >>> batch.images.shape, batch.padding[0].sum().item()
    (torch.Size([2, 3, 4, 4]), 12)
    """
    # the size that all are padded to
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    size = (height, width)

    # a truth may be missing, everything else belongs to all images or to none
    truths = [sample.truth for sample in samples]
    return Batch(
        names=[sample.name for sample in samples],
        images=torch.stack([pad_right_below(sample.image, size, 0.0) for sample in samples]),
        sizes=[sample.size for sample in samples],
        on_disk=_list([sample.on_disk for sample in samples]),
        padding=_stack_padding(samples, size),
        labels=_stack([sample.labels for sample in samples]),
        seeds=_stack_masks([sample.seed for sample in samples], size, IGNORE),
        confidence=_stack_masks([sample.confidence for sample in samples], size, 0),
        clearance=_stack_masks([sample.clearance for sample in samples], size, 0),
        trusted=_stack_masks([sample.trusted for sample in samples], size, 0),
        truths=truths if any(truth is not None for truth in truths) else None,
        superpixels=_list([sample.superpixels for sample in samples]),
        cams=_list([sample.cams for sample in samples]),
        originals=_list([sample.original for sample in samples]),
    )


def pad_right_below(values: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """Pad the last two axes to `size`, on the right and below."""
    below = size[0] - values.shape[-2]
    right = size[1] - values.shape[-1]
    if below == 0 and right == 0:
        return values
    return torch.nn.functional.pad(values, (0, right, 0, below), value=fill)


def _stack_padding(
    samples: Sequence[Sample], size: tuple[int, int]
) -> Bool[Tensor, "B H W"] | None:
    """Mark what lies outside each picture; None when every picture fills the batch."""
    if all(sample.padding is None and sample.image.shape[1:] == size for sample in samples):
        return None
    inside = [torch.zeros(sample.image.shape[1:], dtype=torch.bool) for sample in samples]
    known = [
        nowhere if sample.padding is None else sample.padding
        for sample, nowhere in zip(samples, inside, strict=True)
    ]
    return torch.stack([pad_right_below(padding, size, True) for padding in known])


def _stack_masks(
    masks: Sequence[Tensor | None], size: tuple[int, int], fill: int
) -> UInt8[Tensor, "B H W"] | Bool[Tensor, "B H W"] | None:
    """Stack masks, each filled up to `size`."""
    return _stack([None if mask is None else pad_right_below(mask, size, fill) for mask in masks])


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = _list(tensors)
    return None if present is None else torch.stack(present)


def _list(values: Sequence[Any]) -> list[Any] | None:
    """Return the values, or None when no sample carries any; samples of two kinds do not mix."""
    if all(value is None for value in values):
        return None
    if any(value is None for value in values):
        raise ValueError("a batch mixes samples that carry a field with samples that do not")
    return list(values)
