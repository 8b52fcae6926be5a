"""Quasi-superpixels: SAM cuts every image into masks (METHOD 1); nothing is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import lightning as L

from fmawsss.records import Batch, SuperpixelPrediction
from fmawsss.superpixels import ImageCutter


class SuperpixelModule(L.LightningModule):
    """Predict the quasi-superpixels of whole images at their own size.

    source: a model that answers points, which `generator` asks; or one that cuts images by itself.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("superpixels",)

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
        pairs = zip(batch.names, found, strict=True)
        return [SuperpixelPrediction(name, superpixels) for name, superpixels in pairs]
