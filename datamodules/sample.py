"""What travels from disk to the modules: a record of files, one loaded image, and a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fmawsss.storage import Cams
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split, not yet read.

    `labels` are class indices in ascending order, empty when the image shows none of the classes, None when the split
    has no labels or when they were not asked for. `truth` is its ground-truth mask, if the data set has one.
    """

    name: str
    image: Path
    labels: tuple[int, ...] | None = None
    truth: Path | None = None


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it, and what is known about it.

    `image` is normalised; `padding` marks pixels outside the picture (right and below), where `image` is 0 and `seed`
    is 255. `confidence` says how sure the seed is, 0 to 255. `size` is the height and width of the image on disk, which
    `truth`, `superpixels` and `original` share.
    """

    name: str
    image: Float[Tensor, "3 H W"]
    size: tuple[int, int]
    padding: Bool[Tensor, "H W"] | None = None
    labels: Bool[Tensor, "C"] | None = None
    seed: UInt8[Tensor, "H W"] | None = None
    confidence: UInt8[Tensor, "H W"] | None = None
    truth: UInt8[Tensor, "A B"] | None = None
    superpixels: Superpixels | None = None
    cams: Cams | None = None
    original: UInt8[np.ndarray, "A B 3"] | None = None


@dataclass(frozen=True)
class Batch:
    """Samples side by side; smaller images are padded on the right and below.

    `labels` are multi-hot; `seeds` hold 0 for background, class index + 1, and 255 for pixels to ignore. The lists are
    parallel to `names` and keep the size that each image has on disk; a truth is None where none is known. Fixed views
    carry their numbers, `views`; `encoded` is what a frozen encoder made of them before, and stands for `images`.
    """

    names: list[str]
    images: Float[Tensor, "B 3 H W"] | None
    sizes: list[tuple[int, int]]
    padding: Bool[Tensor, "B H W"] | None = None
    labels: Bool[Tensor, "B C"] | None = None
    seeds: UInt8[Tensor, "B H W"] | None = None
    confidence: UInt8[Tensor, "B H W"] | None = None
    truths: list[UInt8[Tensor, "A B"] | None] | None = None
    superpixels: list[Superpixels] | None = None
    cams: list[Cams] | None = None
    originals: list[UInt8[np.ndarray, "A B 3"]] | None = None
    views: list[int] | None = None
    encoded: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """Copy the tensors to a device; names, superpixels, CAMs and original images stay where they are."""
        # A copy back to the CPU must be complete when it is read.
        overlap = torch.device(device).type != "cpu"
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=overlap))

    def pin_memory(self) -> Batch:
        """Move the tensors to page-locked memory, as the data loader asks."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        fields = ("images", "padding", "labels", "seeds", "confidence")
        present = {field: getattr(self, field) for field in fields if getattr(self, field) is not None}
        changed: dict[str, Any] = {field: change(tensor) for field, tensor in present.items()}
        truths = None if self.truths is None else [truth if truth is None else change(truth) for truth in self.truths]
        encoded = None if self.encoded is None else {name: change(tensor) for name, tensor in self.encoded.items()}
        return replace(self, truths=truths, encoded=encoded, **changed)


def collate_samples(samples: Sequence[Sample]) -> Batch:
    """Join samples of one kind into a batch, padded to the largest height and width among them.

    >>> small, large = (Sample(n, torch.ones(3, s, s), (s, s)) for n, s in (("a", 2), ("b", 4)))
    >>> batch = collate_samples([small, large])
    >>> batch.images.shape, batch.padding[0].sum().item()
    (torch.Size([2, 3, 4, 4]), 12)
    """
    size = max(sample.image.shape[1] for sample in samples), max(sample.image.shape[2] for sample in samples)
    images = torch.stack([pad_right_below(sample.image, size, 0.0) for sample in samples])
    return Batch(
        names=[sample.name for sample in samples],
        images=images,
        sizes=[sample.size for sample in samples],
        padding=_stack_padding(samples, size),
        labels=_stack([sample.labels for sample in samples]),
        seeds=_stack([s.seed if s.seed is None else pad_right_below(s.seed, size, 255) for s in samples]),
        confidence=_stack(
            [s.confidence if s.confidence is None else pad_right_below(s.confidence, size, 0) for s in samples]
        ),
        truths=[s.truth for s in samples] if any(s.truth is not None for s in samples) else None,
        superpixels=_list([sample.superpixels for sample in samples]),
        cams=_list([sample.cams for sample in samples]),
        originals=_list([sample.original for sample in samples]),
    )


def pad_right_below(values: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """Pad the last two axes to `size`, on the right and below."""
    below, right = size[0] - values.shape[-2], size[1] - values.shape[-1]
    if below == 0 and right == 0:
        return values
    return torch.nn.functional.pad(values, (0, right, 0, below), value=fill)


def _stack_padding(samples: Sequence[Sample], size: tuple[int, int]) -> Bool[Tensor, "B H W"] | None:
    """Mark what lies outside each picture; None when every picture fills the batch."""
    if all(sample.padding is None and sample.image.shape[1:] == size for sample in samples):
        return None
    nowhere = (torch.zeros(sample.image.shape[1:], dtype=torch.bool) for sample in samples)
    known = (s.padding if s.padding is not None else none for s, none in zip(samples, nowhere, strict=True))
    return torch.stack([pad_right_below(padding, size, True) for padding in known])


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
