"""Seeds from CAMs on disk, of any origin: no model, no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import lightning as L
import torch

from fmawsss.records import Batch, Cams, SeedPrediction
from fmawsss.seeding import Seed, SeedMaker


class SeedModule(L.LightningModule):
    """Refine CAMs that were written before, by `callbacks=cams` or others, and make their seeds."""

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("CAA", "SAMS")

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
        self._check_classes(name, cams)

        # What the file holds, on the device
        maps, classes = cams.maps.to(self.device), cams.classes
        attention = cams.attention.to(self.device) if cams.attention is not None else None
        superpixels = batch.superpixels[index] if batch.superpixels is not None else None
        image = torch.from_numpy(batch.originals[index]) if batch.originals is not None else None

        # Seeds
        try:
            refined, seeds = self.seeding.make(
                maps, attention, classes, superpixels, batch.sizes[index], image
            )
        except ValueError as error:
            raise ValueError(f"the CAMs of {name}: {error}") from error
        return SeedPrediction(
            name, classes, maps, attention, refined, fetch_seeds(seeds), superpixels=superpixels
        )

    def _check_classes(self, name: str, cams: Cams) -> None:
        """Raise ValueError for CAMs of classes that the data set does not have."""
        labels = cams.classes.tolist()
        foreground = labels[1:] if labels[:1] == [-1] else labels
        strange = [label for label in foreground if not 0 <= label < len(self.classes)]
        if strange:
            raise ValueError(
                f"the CAMs of {name} name class {strange[0]}, the data set has 0 to "
                f"{len(self.classes) - 1} (and -1, the background, in front of them: "
                "seeding=sams_alpha)"
            )


def fetch_seeds(seeds: Mapping[str, Seed]) -> dict[str, Seed]:
    """Bring the seeds of one image to the CPU, where all that follows reads them, in two copies."""
    if all(seed.labels.device.type == "cpu" for seed in seeds.values()):
        return dict(seeds)
    labels = torch.stack([seed.labels for seed in seeds.values()]).cpu()
    confidence = torch.stack([seed.confidence for seed in seeds.values()]).cpu()
    return {
        kind: replace(seed, labels=own, confidence=sure)
        for (kind, seed), own, sure in zip(seeds.items(), labels, confidence, strict=True)
    }
