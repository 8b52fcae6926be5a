"""The small CLIP of the golden vectors, through the same builder as OpenAI's published weights."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from golden_tools import load_case
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from fmawsss.clip.encoder import FrozenClip
from fmawsss.clip.weights import build_openai_clip, open_clip_tokenizer
from fmawsss.contexts import NormalContexts
from fmawsss.prompts import (
    LearnedPrompts,
    context_per_class,
    name_at_end,
    name_at_front,
    name_in_middle,
    share_contexts,
)

PLACES = {"end": name_at_end, "middle": name_in_middle, "front": name_at_front}
SHARES = {False: share_contexts, True: context_per_class}
DTYPES = [torch.float32, torch.float64]


@cache
def load_state() -> dict[str, Tensor]:
    """Load the state dict with OpenAI's keys; token rows that no golden vector uses are NaN."""
    arrays, _ = load_case("case1_clip/state_dict_A")
    ids, rows = arrays.pop("token_ids"), arrays.pop("token_rows")
    table = np.full((49408, rows.shape[1]), np.nan, np.float32)
    table[ids] = rows
    arrays["token_embedding.weight"] = table
    return {name: torch.from_numpy(array).float() for name, array in arrays.items()}


def make_golden_clip(
    dtype: torch.dtype, kind: type[FrozenClip] = FrozenClip, logit_scale: float | None = None
) -> FrozenClip:
    """Make the CLIP of the golden vectors; `logit_scale` (a logarithm) replaces its own."""
    clip = kind(
        build_openai_clip(load_state()), (0.5,) * 3, (0.5,) * 3, open_clip_tokenizer("ViT-B-16")
    ).to(dtype)
    if logit_scale is not None:
        clip.clip.logit_scale.data.fill_(logit_scale)
    return clip


def make_golden_prompts(clip: FrozenClip, case: dict, context: np.ndarray) -> LearnedPrompts:
    """Make the prompts that a case of Grad-CAM describes, with its contexts."""
    settings = case["ctx_cfg"]
    start = NormalContexts(settings["n_ctx"], settings["ctx_std"], case["torch_seed_before_ctor"])
    place, share = PLACES[settings["cls_token_pos"]], SHARES[settings["csc"]]
    prompts = LearnedPrompts(clip, case["fg_names"], case["bg_names"], start, place, share)
    expected = torch.from_numpy(context).reshape(prompts.context.shape)
    assert torch.equal(
        prompts.context.data, expected.to(prompts.context.dtype)
    )  # the named generator is the same
    prompts.context.data = expected.to(clip.logit_scale.dtype)
    return prompts.to(clip.logit_scale.dtype)


def make_small_clip(
    quick_gelu: bool = True,
    vision: dict | None = None,
    text: dict | None = None,
    **settings: object,
) -> CLIP:
    """Make an untrained open_clip model of 3 blocks for 48 x 48 images with patches of 16."""
    torch.manual_seed(0)
    image = CLIPVisionCfg(
        **(
            {"layers": 3, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 48}
            | (vision or {})
        )
    )
    words = CLIPTextCfg(**({"width": 32, "heads": 2, "layers": 2} | (text or {})))
    model = CLIP(24, image, words, quick_gelu=quick_gelu, **settings).eval()
    # open_clip starts biases and norms at 0 and 1, which would hide mistakes
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "class_embedding" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.logit_scale.data.fill_(math.log(20))
    return model


def freeze(model: CLIP, kind: type[FrozenClip] = FrozenClip) -> FrozenClip:
    """Wrap a small CLIP."""
    return kind(model, (0.5,) * 3, (0.5,) * 3, open_clip_tokenizer("ViT-B-16"))
