"""Seeds from CAMs on disk, of any origin: no model, no training."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from datamodules.sample import Batch
from lightning_modules.prompts import SeedMaker, SeedPrediction


class SeedModule(L.LightningModule):
    """Refine CAMs that were written before (`callbacks=cams`, or another method) and make seeds of them."""

    def __init__(self, seeding: SeedMaker, classes: Sequence[str]) -> None:
        super().__init__()
        self.seeding = seeding
        self.classes = tuple(classes)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SeedPrediction]:
        """Make the seeds of each image of the batch.

        Raises:
            ValueError: when a file speaks of classes that the data set does not have.
        """
        assert batch.cams is not None
        return [self._predict_image(batch, index) for index in range(len(batch.names))]

    def _predict_image(self, batch: Batch, index: int) -> SeedPrediction:
        assert batch.cams is not None
        name, cams = batch.names[index], batch.cams[index]
        strange = [label for label in cams.classes.tolist() if not 0 <= label < len(self.classes)]
        if strange:
            raise ValueError(
                f"the CAMs of {name} name class {strange[0]}, the data set has 0 to {len(self.classes) - 1}"
            )
        superpixels = batch.superpixels[index] if batch.superpixels is not None else None
        maps, attention = cams.maps.to(self.device), cams.attention
        attention = attention.to(self.device) if attention is not None else None
        classes = cams.classes.to(self.device)
        refined, seeds = self.seeding.make(maps, attention, classes, superpixels, batch.sizes[index])
        return SeedPrediction(name, classes, maps, attention, refined, seeds)
