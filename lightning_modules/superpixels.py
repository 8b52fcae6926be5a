"""Quasi-superpixels: SAM cuts every image into masks (METHOD 1); nothing is learned."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L

from datamodules.sample import Batch
from fmawsss.sam import SuperpixelGenerator
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class SuperpixelPrediction:
    """The quasi-superpixels of one image."""

    name: str
    superpixels: Superpixels


class SuperpixelModule(L.LightningModule):
    """Predict the quasi-superpixels of whole images at their own size."""

    def __init__(self, generator: SuperpixelGenerator) -> None:
        super().__init__()
        self.generator = generator

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SuperpixelPrediction]:
        """Cut each image of the batch."""
        assert batch.originals is not None
        return [
            SuperpixelPrediction(name, self.generator.generate(image))
            for name, image in zip(batch.names, batch.originals, strict=True)
        ]
