"""What a region memory makes of one image: its seeds before and after, and what explained them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fmawsss.agreement import measure_agreement
from fmawsss.memory import ImageRegions, find_bare
from fmawsss.records import Captioned, Palette, Prediction, lay_masks, list_classes, list_regions
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
from fmawsss.trust import fit_trusted


@dataclass(frozen=True, eq=False)
class MemoryPrediction(Prediction):
    """The seeds of one image before (`sams`) and after (`memory`) a memory explained its regions.

    `told` is the most that look-alikes of any superpixel know of a class, in 0…1. `shown` is a
    superpixel with its neighbours, as plain data; both are None where nothing was explained.
    `corrected` is the share of pixels that a person has corrected; None of an image without any;
    `background` how much corrected images let the background count.
    """

    name: str
    classes: Int[Tensor, "P"]
    seeds: dict[str, Seed]
    told: Float[Tensor, "C"] | None
    shown: dict[str, Any] | None
    corrected: float | None = None
    background: float = 1.0

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the seeds, the memory's last."""
        return {kind: seed.labels for kind, seed in self.seeds.items()}

    def facts(self) -> dict[str, Any]:
        """Describe the regions of each seed, and how well the two agree."""
        regions = {k: list_regions(seed.labels, seed.confidence) for k, seed in self.seeds.items()}
        masks = self.masks()
        agreement = measure_agreement(masks["memory"], masks["sams"], self.classes)
        facts = {"agreement": agreement, "regions": regions, "neighbours": self.shown}
        if self.corrected is not None:
            facts["corrected"] = round(self.corrected, 4)
        if self.background != 1:
            facts["background"] = self.background
        return (
            facts if self.told is None else {**facts, "told": list_classes(self.told, self.classes)}
        )

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Lay both seeds over the image, or a copy of it."""
        size = image.shape[:2]
        masks = {kind: fit_trusted(mask, size) for kind, mask in self.masks().items()}
        return lay_masks(masks, image, palette)


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
