"""Two ways to the same results, and what several of the comparisons need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import plain
from benchmarks.inputs import Recipe

Results = Mapping[str, Tensor]
Side = Callable[[], Results]


@dataclass(frozen=True)
class Comparison:
    """Two ways to the same results; `bare` is the image encoder alone, on the same images."""

    label: str
    ours: Side
    plain: Side
    bare: Side | None = None
    speed: float | None = None  # aim: so many times faster than plain
    per_bare: float | None = None  # aim: so many times the bare image encoder at most
    memory: float | None = (
        None  # aim: this part of plain's peak at most; None: the peak is not measured
    )


def run_bare_encoder(clip: torch.nn.Module, images: Float[Tensor, "B 3 H W"]) -> Results:
    """Run open_clip's image encoder and nothing else."""
    return {"features": plain.run_encoder(clip.visual, images)}


def encode_text_plainly(recipe: Recipe) -> Float[Tensor, "T E"]:
    """Write out the prompts of a recipe and encode them."""
    clip = recipe.module.clip
    prompts, ends = plain.embed_prompts(
        clip.clip, clip.tokenize, recipe.names, recipe.module.prompts.context, recipe.names_first
    )
    return plain.encode_text(clip.clip, prompts, ends)
