"""Seeds from CAMs on disk, of any origin: no model, no training."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
import torch

from fmawsss.records import Batch
from lightning_modules.prompts import SeedMaker, SeedPrediction


class SeedModule(L.LightningModule):
    """Refine CAMs that were written before (`callbacks=cams`, or another method) and make seeds of
    them.
    """

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
        labels = cams.classes.tolist()
        strange = [
            label for label in labels[labels[:1] == [-1] :] if not 0 <= label < len(self.classes)
        ]
        if strange:
            raise ValueError(
                f"the CAMs of {name} name class {strange[0]}, the data set has 0 to "
                f"{len(self.classes) - 1} "
                "(and -1, the background, in front of them: seeding=sams_alpha)"
            )
        superpixels = batch.superpixels[index] if batch.superpixels is not None else None
        maps, attention = cams.maps.to(self.device), cams.attention
        attention = attention.to(self.device) if attention is not None else None
        classes = cams.classes.to(self.device)
        image = torch.from_numpy(batch.originals[index]) if batch.originals is not None else None
        try:
            refined, seeds = self.seeding.make(
                maps, attention, classes, superpixels, batch.sizes[index], image
            )
        except ValueError as error:
            raise ValueError(f"the CAMs of {name}: {error}") from error
        return SeedPrediction(name, classes, maps, attention, refined, seeds)
