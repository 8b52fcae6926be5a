"""The records that all rooms speak in: an image on disk, its CAMs, a batch of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split, not yet read.

    `labels` are class indices in ascending order, empty when the image shows none of the classes,
    None when the split has no labels or when they were not asked for. `truth` is its ground-truth
    mask, if the data set has one.
    """

    name: str
    image: Path
    labels: tuple[int, ...] | None = None
    truth: Path | None = None


@dataclass(frozen=True, eq=False)
class Cams:
    """The CAMs of the P classes present in one image."""

    maps: Float[Tensor, "P h w"]
    classes: Int64[Tensor, "P"]  # indices of foreground classes, from 0
    attention: Float[Tensor, "N N"] | None  # what an affinity needs, if it was stored


@dataclass(frozen=True)
class Batch:
    """Samples side by side; smaller images are padded on the right and below.

    `labels` are multi-hot; `seeds` hold 0 for background, class index + 1, and 255 for pixels to
    ignore. The lists are parallel to `names` and keep the size that each image has on disk; a truth
    is None where none is known. Fixed views carry their numbers, `views`; `encoded` is what a
    frozen encoder made of them before, and stands for `images`.
    """

    names: list[str]
    images: Float[Tensor, "B 3 H W"] | None
    sizes: list[tuple[int, int]]
    padding: Bool[Tensor, "B H W"] | None = None
    labels: Bool[Tensor, "B C"] | None = None
    seeds: UInt8[Tensor, "B H W"] | None = None
    confidence: UInt8[Tensor, "B H W"] | None = None
    truths: list[UInt8[Tensor, "_ _"] | None] | None = None
    superpixels: list[Superpixels] | None = None
    cams: list[Cams] | None = None
    originals: list[UInt8[np.ndarray, "_ _ 3"]] | None = None
    views: list[int] | None = None
    encoded: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """Copy the tensors to a device; names, superpixels, CAMs and original images stay where
        they are.
        """
        # A copy back to the CPU must be complete when it is read.
        overlap = torch.device(device).type != "cpu"
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=overlap))

    def pin_memory(self) -> Batch:
        """Move the tensors to page-locked memory, as the data loader asks."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        fields = ("images", "padding", "labels", "seeds", "confidence")
        present = {
            field: getattr(self, field) for field in fields if getattr(self, field) is not None
        }
        changed: dict[str, Any] = {field: change(tensor) for field, tensor in present.items()}
        truths = (
            None
            if self.truths is None
            else [truth if truth is None else change(truth) for truth in self.truths]
        )
        encoded = (
            None
            if self.encoded is None
            else {name: change(tensor) for name, tensor in self.encoded.items()}
        )
        return replace(self, truths=truths, encoded=encoded, **changed)
