"""Two ways to the same results, and what several of the comparisons need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import plain
from benchmarks.inputs import Recipe
from fmawsss import cam
from fmawsss.clip.encoder import ImageTokens
from fmawsss.records import Batch

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
    memory: float | None = None  # aim: this part of plain's peak; None: no peak is measured
    tolerance: float = 1e-3  # relative deviation between the two sides


def run_bare_encoder(clip: torch.nn.Module, images: Float[Tensor, "B 3 H W"]) -> Results:
    """Run open_clip's image encoder and nothing else."""
    return {"features": plain.run_encoder(clip.visual, images)}


def compute_cams_plainly(
    recipe: Recipe,
    inputs: Float[Tensor, "B L D"],
    text_features: Float[Tensor, "T E"],
    batch: Batch,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Return logits and CAMs by the library's plain form, from the input of the last block on."""
    height, width = batch.images.shape[2:]
    valid = torch.ones(inputs[:, 1:, 0].shape, dtype=torch.bool, device=inputs.device)
    tokens = ImageTokens(inputs, valid, (height // 16, width // 16), attention=None)
    clip = recipe.module.clip
    return cam.compute_cams_plainly(
        clip, tokens, text_features, batch.labels, cam.softmax_over_present
    )


def encode_text_plainly(recipe: Recipe) -> Float[Tensor, "T E"]:
    """Write out the prompts of a recipe and encode them."""
    clip = recipe.module.clip
    prompts, ends = plain.embed_prompts(
        clip.clip, clip.tokenize, recipe.names, recipe.module.prompts.context, recipe.names_first
    )
    return plain.encode_text(clip.clip, prompts, ends)
