"""How much the background counts in the seeds of a memory: corrected images tell.

The scores of SAMS were never meant to be compared with one another as probabilities are. Corrected
images are explained as if nobody had corrected them, with each of some factors on the score of the
background; the factor that gives them the best seeds serves all images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmawsss.files.regions import value_regions
from fmawsss.memory import ImageRegions, MemoryReader, Neighbours, RegionMemory, find_bare
from fmawsss.seeding import Priority
from fmawsss.superpixels import Superpixels
from fmawsss.trust import FACTORS, choose_factor, fit_trusted, measure_overlap, weigh_background
from lightning_modules.memory_seeds import paint_regions

logger = logging.getLogger(__name__)

MOST = 64  # corrected images that are looked at


@dataclass(frozen=True)
class Corrected:
    """A corrected image: its regions as they were, superpixels, neighbours, and trusted mask."""

    regions: ImageRegions
    superpixels: Superpixels
    found: Neighbours
    trusted: Tensor

    @property
    def is_fitting(self) -> bool:
        """Say whether the superpixels are of the size that the regions were kept at."""
        return len(find_bare(self.superpixels)) == len(self.regions.rest)


def calibrate(
    names: Sequence[str],
    read: Callable[[str], Corrected],
    memory: RegionMemory,
    reader: MemoryReader,
    priority: Sequence[Priority],
    classes: int,
) -> float:
    """Choose the factor on the background by the corrected images of these names; 1 without any."""
    step = -(-len(names) // MOST) or 1
    overlaps: dict[float, list[float]] = {factor: [] for factor in FACTORS}
    for name in names[::step]:
        image = read(name)
        if not image.found.rows.numel() or not image.is_fitting:
            continue
        trusted = fit_trusted(image.trusted, image.superpixels.size)
        scores = explain_plainly(image, memory, reader, classes)
        present = torch.cat([torch.zeros(1, dtype=torch.long), image.regions.classes + 1])
        for factor, found in overlaps.items():
            weighed = weigh_background(scores, factor)[:, present].T
            seed = paint_regions(weighed, image.regions, image.superpixels, priority)
            found.append(measure_overlap(seed.labels, trusted))

    # the best of them
    factor = choose_factor(overlaps)
    if count := len(overlaps[factor]):
        logger.info(
            "%d corrected images: the background counts %g-fold (overlap of their seeds %.1f -> "
            "%.1f percent)",
            count,
            factor,
            100 * sum(overlaps[1.0]) / count,
            100 * sum(overlaps[factor]) / count,
        )
    return factor


def explain_plainly(
    image: Corrected, memory: RegionMemory, reader: MemoryReader, classes: int
) -> Tensor:
    """Score the superpixels of an image as if nobody had corrected it, (M, R)."""
    own, labels = value_regions("", image.regions, classes)
    told = reader.listen(memory, image.found).cpu()
    return reader.mix(own, labels, told)
