"""Run the transformer blocks of open_clip, with key masks and access to the attention weights."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock
from torch import Tensor, nn

from fmawsss.precision import widen

Block: TypeAlias = ResidualAttentionBlock | CustomResidualAttentionBlock
ATTENTION_BYTES = 1 << 28  # of weights of all heads that are held at once; 1 600 patches need half


def check_block(block: Block) -> None:
    """Refuse a block whose attention is more than softmax(query · key) · value.

    Raises:
        ValueError: naming the options of open_clip that make such blocks.
    """
    attention = block.attn

    # norms within the block, scales of its attention
    norms = [getattr(attention, name, None) for name in ("ln_q", "ln_k", "ln_inner")]
    norms += [getattr(block, "ln_attn", None), getattr(block.mlp, "ln", None)]
    scales = [getattr(attention, name, None) for name in ("logit_scale", "head_scale")]
    found = [norm for norm in norms if not isinstance(norm, nn.Identity)] + scales

    # queries, keys and values must come from one matrix
    joined = getattr(attention, "in_proj_weight", None) is not None
    if any(part is not None for part in found) or not joined:
        raise ValueError(
            "the transformer blocks normalise or scale queries, keys, heads or hidden layers; "
            "expected plain blocks: choose an open_clip model without qk_norm, "
            "scaled_cosine_attn, scale_heads, scale_attn(_inner), scale_fc"
        )


def split_heads(x: Float[Tensor, "B L D"], heads: int) -> Float[Tensor, "B heads L d"]:
    """Cut the channels into heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B heads L d"]) -> Float[Tensor, "B L D"]:
    """Join the heads to channels again."""
    return x.transpose(1, 2).flatten(2)


def project_heads(block: Block, normed: Float[Tensor, "B L D"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of a block, each (B, heads, L, d)."""
    projected = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias)
    queries, keys, values = (
        split_heads(part, block.attn.num_heads) for part in projected.chunk(3, dim=-1)
    )
    return queries, keys, values


def show_keys(valid: Bool[Tensor, "B N"]) -> Bool[Tensor, "B 1 1 L"]:
    """Return which keys may be attended to: the class token and the valid patches."""
    return F.pad(valid, (1, 0), value=True)[:, None, None]


def weigh_keys(
    queries: Float[Tensor, "B heads Q d"],
    keys: Float[Tensor, "B heads L d"],
    visible: Bool[Tensor, "B 1 1 L"] | None,
) -> Float[Tensor, "B heads Q L"]:
    """Return the attention weights: rows sum to one, keys that are not visible get zero."""
    logits = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if visible is not None:
        logits = logits.masked_fill(~visible, float("-inf"))
    if logits.requires_grad:
        return logits.softmax(dim=-1)

    # in place: on the CPU, new memory of this size costs more than what is computed in it
    logits = widen(logits)
    return torch.softmax(logits, dim=-1, out=logits)


def attend(
    block: Block,
    normed: Float[Tensor, "B L D"],
    visible: Bool[Tensor, "..."] | None,
    before: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "B L D"]:
    """Return what the attention of a block adds to the tokens, never holding the weights.

    `before` holds keys and values of tokens that stand before these, (B, heads, F, d) each.
    """
    queries, keys, values = project_heads(block, normed)
    if before is not None:
        keys = torch.cat([before[0].to(keys.dtype), keys], dim=2)
        values = torch.cat([before[1].to(values.dtype), values], dim=2)
    heads = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    return block.ls_1(block.attn.out_proj(merge_heads(heads)))


def attend_openly(
    block: Block, normed: Float[Tensor, "B L D"], visible: Bool[Tensor, "B 1 1 L"] | None
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L L"]]:
    """Return what the attention of a block adds to the tokens, and its mean weights."""
    queries, keys, values = project_heads(block, normed)
    mixed, means = [], []
    for part in split_rows(queries, keys):
        weights = weigh_keys(part, keys, visible)
        mixed.append(weights.to(values.dtype) @ values)
        means.append(weights.mean(dim=1))
        del weights  # before those of the next rows
    heads = join_rows(mixed, dim=2)
    return block.ls_1(block.attn.out_proj(merge_heads(heads))), join_rows(means, dim=1)


def average_heads(
    queries: Float[Tensor, "B heads L d"],
    keys: Float[Tensor, "B heads L d"],
    visible: Bool[Tensor, "B 1 1 L"] | None,
) -> Float[Tensor, "B L L"]:
    """Return the mean over heads of the attention weights."""
    parts = split_rows(queries, keys)
    return join_rows([weigh_keys(part, keys, visible).mean(dim=1) for part in parts], dim=1)


def split_rows(
    queries: Float[Tensor, "B heads L d"], keys: Float[Tensor, "B heads L d"]
) -> tuple[Float[Tensor, "B heads _ d"], ...]:
    """Cut queries so that the weights of a part fit `ATTENTION_BYTES`."""
    images, heads, length, _ = keys.shape
    row = images * heads * length * 4
    return queries.split(max(ATTENTION_BYTES // max(row, 1), 1), dim=2)


def join_rows(parts: list[Tensor], dim: int) -> Tensor:
    """Put together what was computed of the parts of `split_rows`."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def transform(block: Block, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """Add the two-layer perceptron of a block."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def run_block(
    block: Block,
    x: Float[Tensor, "B L D"],
    visible: Bool[Tensor, "..."] | None,
    before: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "B L D"]:
    """Run a whole block; `before` as in `attend`."""
    return transform(block, x + attend(block, block.ln_1(x), visible, before))
