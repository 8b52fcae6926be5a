"""Ways to cut photos into superpixels without a GPU, tried on one photo of the run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from stages.plan.cutting import load_photo, time_cut
from stages.plan.rehearsal import silence
from stages.plan.small import compose_cutter, knows_choice
from stages.stage import Stage

# What is typed beside the command, a line each
CUTTERS = (
    "sam=superpixels_classic",
    "sam=mobile masks=fast",
    "sam=vit_b masks=fast",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Advice:
    """What to type, and the seconds of a photo."""

    words: str
    seconds: float


def try_cutters(cfg: DictConfig, stage: Stage) -> list[Advice]:
    """Time each way on one photo, as it is loaded for the stage; the fastest first."""
    photo = load_photo(stage)
    found = []
    for words in filter(knows_choice, CUTTERS):
        logger.info("superpixels: timing %s", words)
        with silence(), torch.inference_mode():
            cut = time_cut(compose_cutter(cfg, words.split()).generator, photo)
        found.append(Advice(words, cut.seconds))
    return sorted(found, key=lambda advice: advice.seconds)


def tell_advice(advice: Sequence[Advice]) -> list[str]:
    """Tell what else cuts photos, and how long that takes."""
    if not advice:
        return []
    lines = ["superpixels without a GPU, seconds a photo, on this machine:"]
    lines += [f"  {one.words}: {one.seconds:.1f} s" for one in advice]
    return [*lines, f"the fastest here: {advice[0].words}"]
