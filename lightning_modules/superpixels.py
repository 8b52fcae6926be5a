"""Quasi-superpixels: SAM cuts every image into masks (METHOD 1); nothing is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import lightning as L

from fmawsss.records import Batch, SuperpixelPrediction
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.superpixels import ImageCutter, keep_made


@dataclass(frozen=True)
class Speed:
    """How much SAM does at once: how fast and in how much memory, never what comes out.

    bias_numbers: numbers of relative-position bias in the encoder.
    chunk_megabytes: of masks and features on their way to masks.
    """

    bias_numbers: int
    points_per_batch: int
    crops_per_batch: int
    chunk_megabytes: int


class SuperpixelModule(L.LightningModule):
    """Predict the quasi-superpixels of whole images at their own size.

    source: a model that answers points, which `generator` asks; or one that cuts images by itself.
    encoder: how the source's image encoder runs.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("superpixels",)

    def __init__(
        self,
        source: Any,
        generator: Callable[..., ImageCutter],
        encoder: Callable[..., Any],
        speed: Speed,
        classes: Sequence[str],
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        if isinstance(source, ImageCutter):
            self.generator = source
            return
        self.generator = generator(
            source,
            encoder=partial(encoder, bias_numbers=speed.bias_numbers),
            points_per_batch=speed.points_per_batch,
            crops_per_batch=speed.crops_per_batch,
            chunk_megabytes=speed.chunk_megabytes,
        )

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SuperpixelPrediction]:
        """Cut each image of the batch."""
        assert batch.originals is not None
        if isinstance(self.generator, SuperpixelGenerator):
            found = self.generator.begin_batch(batch.originals)
        else:
            made = self.generator.generate_batch(batch.originals)
            found = [partial(keep_made, superpixels) for superpixels in made]
        return [SuperpixelPrediction(*pair) for pair in zip(batch.names, found, strict=True)]
