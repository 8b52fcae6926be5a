"""Quasi-superpixels: SAM cuts every image into masks (METHOD 1); nothing is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
from torch import Tensor

from fmawsss.records import Batch
from fmawsss.superpixels import ImageCutter, Superpixels


@dataclass(frozen=True)
class SuperpixelPrediction:
    """The quasi-superpixels of one image."""

    name: str
    superpixels: Superpixels

    def masks(self) -> dict[str, Tensor]:
        """Superpixels carry no classes: there is nothing to score."""
        return {}


class SuperpixelModule(L.LightningModule):
    """Predict the quasi-superpixels of whole images at their own size.

    source: a model that answers points, which `generator` asks; or one that cuts images by itself.
    """

    def __init__(
        self, source: Any, generator: Callable[[Any], ImageCutter], classes: Sequence[str]
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.generator = source if isinstance(source, ImageCutter) else generator(source)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SuperpixelPrediction]:
        """Cut each image of the batch."""
        assert batch.originals is not None
        found = self.generator.generate_batch(batch.originals)
        return [
            SuperpixelPrediction(name, own) for name, own in zip(batch.names, found, strict=True)
        ]
