"""Which CLIPs of open_clip the method describes."""

from __future__ import annotations

from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from torch import nn

from fmawsss.clip.blocks import check_block


def check_clip(clip: nn.Module) -> None:
    """Refuse what the method does not describe.

    Raises:
        ValueError: naming what was found.
    """
    if not isinstance(clip, CLIP):
        raise ValueError(
            f"expected an open_clip.CLIP with its own text encoder, found {type(clip).__name__}"
        )
    visual = clip.visual
    if not isinstance(visual, VisionTransformer):
        raise ValueError(
            f"expected a vision transformer of open_clip, found {type(visual).__name__}"
        )
    for refused, found in {
        "an attentional pool": getattr(visual, "attn_pool", None) is not None,
        "no class token": getattr(visual, "class_embedding", None) is None,
        "a final norm after pooling": visual.final_ln_after_pool,
        "no visual projection": visual.proj is None,
        "patches that are not square": visual.patch_size[0] != visual.patch_size[1],
        "a bias on its logits (SigLIP)": clip.logit_bias is not None,
        "a text encoder that is not causal": clip.attn_mask is None,
        f"text pooling {clip.text_pool_type!r}": clip.text_pool_type not in ("argmax", "eos"),
    }.items():
        if found:
            raise ValueError(
                f"this CLIP has {refused}, which the method does not describe: choose another "
                "open_clip ViT"
            )
    for block in (*visual.transformer.resblocks, *clip.transformer.resblocks):
        check_block(block)
