"""Seeds from CAMs on disk, of any origin: no model, no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import ClassVar

import lightning as L
import torch

from fmawsss.records import Batch, Cams, SeedPrediction
from fmawsss.scenes import Scene
from fmawsss.seeding import Seed, SeedMaker
from fmawsss.seeding_batches import Seeds, make_seeds


class SeedModule(L.LightningModule):
    """Refine CAMs that were written before, by `callbacks=cams` or others, and make their seeds."""

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("CAA", "SAMS")

    def __init__(self, seeding: SeedMaker, classes: Sequence[str]) -> None:
        super().__init__()
        self.seeding = seeding
        self.classes = tuple(classes)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SeedPrediction]:
        """Make the seeds of all images of the batch together, and read the device twice for them.

        Raises:
            ValueError: when a file speaks of classes that the data set does not have.
        """
        assert batch.cams is not None
        for name, cams in zip(batch.names, batch.cams, strict=True):
            self._check_classes(name, cams)

        # Seeds; where a batch is refused, the image that is at fault is named
        scenes = [self._make_scene(batch, index) for index in range(len(batch))]
        try:
            refined, seeds, _ = make_seeds(self.seeding, scenes)
        except ValueError:
            for name, scene in zip(batch.names, scenes, strict=True):
                with name_fault(name):
                    make_seeds(self.seeding, [scene])
            raise
        return [
            SeedPrediction(
                name, scene.classes, scene.cams, scene.attention, finer,
                Seeds({kind: partial(paint_named, name, own, kind) for kind in own}),
                superpixels=scene.superpixels,
            )
            for name, scene, finer, own in zip(batch.names, scenes, refined, seeds, strict=True)
        ]  # fmt: skip

    def _make_scene(self, batch: Batch, index: int) -> Scene:
        """Put what is known of an image side by side, what its file of CAMs holds on the device."""
        assert batch.cams is not None
        cams = batch.cams[index]
        return Scene(
            cams.maps.to(self.device),
            None if cams.attention is None else cams.attention.to(self.device),
            cams.classes,
            None if batch.superpixels is None else batch.superpixels[index],
            batch.sizes[index],
            None if batch.originals is None else torch.from_numpy(batch.originals[index]),
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


@contextmanager
def name_fault(name: str) -> Iterator[None]:
    """Say of which image the CAMs are that are refused."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"the CAMs of {name}: {error}") from error


def paint_named(name: str, seeds: Mapping[str, Seed], kind: str) -> Seed:
    """Paint one seed of an image; ValueError names it."""
    with name_fault(name):
        return seeds[kind]


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
