"""Seeds once more: superpixels explained by their look-alikes in other images (METHOD 11.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fmawsss.agreement import measure_agreement
from fmawsss.files.regions import find_values, read_memory, read_pair
from fmawsss.memory import ImageRegions, MemoryReader, Neighbours, RegionMemory, find_bare
from fmawsss.records import Batch, Captioned, Palette, Prediction, lay_masks, list_regions
from fmawsss.resizing import Picture
from fmawsss.seeding import (
    Priority,
    ScoredMasks,
    Seed,
    choose_labels,
    find_top_masks,
    order_masks,
    paint_masks,
)
from fmawsss.superpixels import Superpixels

logger = logging.getLogger(__name__)

SHOWN = 6  # neighbours of a superpixel, for people


@dataclass(frozen=True, eq=False)
class MemoryPrediction(Prediction):
    """The seeds of one image before (`sams`) and after (`memory`) a memory explained its regions.

    `shown` is a superpixel with its neighbours, as plain data; None where nothing was explained.
    """

    name: str
    classes: Int[Tensor, "P"]
    seeds: dict[str, Seed]
    shown: dict[str, Any] | None

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the seeds, the memory's last."""
        return {kind: seed.labels for kind, seed in self.seeds.items()}

    def facts(self) -> dict[str, Any]:
        """Describe the regions of each seed, and how well the two agree."""
        regions = {k: list_regions(seed.labels, seed.confidence) for k, seed in self.seeds.items()}
        masks = self.masks()
        agreement = measure_agreement(masks["memory"], masks["sams"], self.classes)
        return {"agreement": agreement, "regions": regions, "neighbours": self.shown}

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Lay both seeds over the image."""
        return lay_masks(self.masks(), image, palette)


class MemoryModule(L.LightningModule):
    """Explain the superpixels of images by a memory of others, and paint seeds anew.

    memory: how neighbours are found and mixed.
    priority: what paints over what, as in the seeds before.
    regions: the folder of what those seeds kept; `keys` holds the keys, often the same.
    split: the images that the memory is made of; `list_images` lists their names.
    store: a folder for the memory's temporary files.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("region memory",)

    def __init__(
        self,
        classes: Sequence[str],
        list_images: Callable[[str], Sequence[str]],
        memory: MemoryReader,
        priority: Sequence[Priority],
        split: str,
        regions: str | Path,
        keys: str | Path | None,
        store: str | Path,
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.list_images = list_images
        self.reader = memory
        self.priority = priority
        self.split = split
        self.regions = Path(regions)
        self.keys = Path(keys or regions)
        self.store = Path(store)

    def on_predict_start(self) -> None:
        """Read the memory, once for the whole run."""
        self.names = names = list(self.list_images(self.split))
        self.numbers = {name: number for number, name in enumerate(names)}
        self.memory: RegionMemory = read_memory(
            self.regions, self.keys, names, len(self.classes), self.store
        )
        logger.info("a memory of %d superpixels in %d images", len(self.memory.keys), len(names))
        self.alone: list[str] = []

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[MemoryPrediction]:
        """Explain the superpixels of each image of the batch."""
        assert batch.superpixels is not None, "a memory needs superpixels"
        return [
            self._predict_image(name, superpixels)
            for name, superpixels in zip(batch.names, batch.superpixels, strict=True)
        ]

    def on_predict_end(self) -> None:
        """Say which images show a class that too few others do, and stay as they were."""
        if self.alone:
            logger.warning(
                "%d images show a class that fewer than %d other images of the memory show, "
                "and keep their seeds, e.g. %s",
                len(self.alone),
                self.reader.least,
                ", ".join(self.alone[:5]),
            )

    def _predict_image(self, name: str, superpixels: Superpixels) -> MemoryPrediction:
        regions, keys = read_pair(self.regions, self.keys, name)
        if len(keys) != len(superpixels):
            raise ValueError(
                f"{self.regions / name}.npz holds {len(keys)} regions, the image "
                f"{len(superpixels)} superpixels: make both again, `python infer.py task=cls "
                "callbacks=regions overwrite=true`"
            )
        own = find_values(regions, len(self.classes))
        labels = torch.zeros(len(self.classes), dtype=torch.bool)
        labels[regions.classes] = True
        scores, found = self.reader.explain(
            keys.to(self.device), own.to(self.device), labels, self.memory, self.numbers.get(name)
        )

        # the seed before, and the one that the memory makes of it
        before, shown = paint_regions(regions.scores, regions, superpixels, self.priority), None
        after = before
        if found.rows.numel():
            present = torch.cat([torch.zeros(1, dtype=torch.long), regions.classes + 1])
            after = paint_regions(scores.cpu()[:, present].T, regions, superpixels, self.priority)
            shown = self._show(own, scores.cpu(), superpixels, found)
        elif len(keys) and labels.any():
            self.alone.append(name)
        return MemoryPrediction(name, regions.classes, {"sams": before, "memory": after}, shown)

    def _show(
        self,
        own: Float[Tensor, "M R"],
        scores: Float[Tensor, "M R"],
        superpixels: Superpixels,
        found: Neighbours,
    ) -> dict[str, Any]:
        """Choose the largest superpixel that changed, or the largest, and list its neighbours.

        Of each: image, number within the image, cosine, what it was taken for.
        """
        before, after = own.argmax(dim=1), scores.argmax(dim=1)
        chosen = int(((before != after) * superpixels.area.sum() + superpixels.area).argmax())
        rows = found.rows[chosen, :SHOWN]
        owners = self.memory.owners[rows]
        numbers = rows - torch.searchsorted(self.memory.owners, owners)
        values = self.memory.values[rows.numpy()].argmax(axis=1)
        cosines = found.cosines[chosen, :SHOWN].tolist()
        return {
            "superpixel": chosen,
            "before": int(before[chosen]),
            "after": int(after[chosen]),
            "found": [
                [self.names[owner], number, round(cosine, 3), int(value)]
                for owner, number, cosine, value in zip(
                    owners.tolist(), numbers.tolist(), cosines, values, strict=True
                )
            ],
        }


def paint_regions(
    scores: Float[Tensor, "Q M"],
    regions: ImageRegions,
    superpixels: Superpixels,
    priority: Sequence[Priority],
) -> Seed:
    """Give each superpixel the best of its scores, and paint them over one another."""
    label, confidence = choose_labels(scores, regions.classes)
    level, area = superpixels.level.long(), superpixels.area.long()
    masks = ScoredMasks(scores, label, confidence, level, area)
    order = order_masks(masks, priority)
    top = find_top_masks(order, superpixels, torch.device("cpu"))
    return paint_masks(masks, top, spread_rest(regions, superpixels))


def spread_rest(regions: ImageRegions, superpixels: Superpixels) -> Seed:
    """Lay out what was kept of the pixels in no superpixel; the others are 0."""
    height, width = superpixels.size
    bare = find_bare(superpixels)
    labels = torch.zeros(height * width, dtype=torch.uint8)
    confidence = torch.zeros(height * width)
    labels[bare], confidence[bare] = regions.rest, regions.rest_confidence
    return Seed(labels.view(width, height).T, confidence.view(width, height).T, fell_back=False)
