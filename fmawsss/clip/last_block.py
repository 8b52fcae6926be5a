"""The last image block with its vjp and jvp: what a CAM needs of it, without a graph.

Let `a` be the patches after the block's ln_1, and `f` the image feature. A CAM reads the mean over
patches of `df/da`, which is the derivative of one map: x, a vector over channels, is added to every
patch of the image, divided by their number, and `f` changes.

    vjp   g over features -> channels    (df/dx)^T g    the weights of a CAM
    jvp   t over channels -> features    (df/dx) t      its transpose: the gradient of a CAM's loss

Both are written out. All patches share their vector at one end, so that most matrix products of a
general backward pass become products of single vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.autograd.function import once_differentiable

from fmawsss.clip.blocks import (
    Block,
    merge_heads,
    project_heads,
    show_keys,
    split_heads,
    weigh_keys,
)
from fmawsss.clip.pairs import Pairs
from fmawsss.precision import multiply


@dataclass(frozen=True)
class LastBlock:
    """What the last block computed for B images, in the form in which its derivatives need it."""

    visual: VisionTransformer
    valid: Float[Tensor, "B N 1"]  # 1 for patches of the image, 0 for padding
    activations: Float[Tensor, "B N D"]  # ln_1, patch rows
    queries: Float[Tensor, "B heads N d"]
    keys: Float[Tensor, "B heads L d"]
    values: Float[Tensor, "B heads L d"]  # less their mean, which no derivative of weights sees
    weights: Float[Tensor, "B heads N L"]  # attention of the patches, rows sum to one
    mixed: Float[Tensor, "B heads N d"]  # weights · values
    middle: Float[Tensor, "B N D"]  # ln_2 without its scale and offset
    middle_spread: Float[Tensor, "B N 1"]
    slope: Float[Tensor, "B N hidden"]  # derivative of the activation function
    outer: Float[Tensor, "B N D"]  # ln_post without its scale and offset
    outer_spread: Float[Tensor, "B N 1"]
    echo: Float[Tensor, "B N hidden"]  # outer, times the second layer of the perceptron

    @property
    def features(self) -> Float[Tensor, "B E"]:
        """Mean over the valid patches of ln_post, projected (METHOD 2)."""
        norm = self.visual.ln_post
        pooled = (self.outer * self.valid).sum(dim=1) / self._count()
        return multiply(pooled * norm.weight + norm.bias, self.visual.proj)

    def take(self, images: Int[Tensor, "R"]) -> LastBlock:
        """Select images in ascending order; all of them cost no copy."""
        if len(images) == len(self.valid):
            return self
        tensors = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "visual"
        }
        return replace(self, **{name: tensor[images] for name, tensor in tensors.items()})

    def vjp(self, cotangents: Float[Tensor, "B E"]) -> Float[Tensor, "B D"]:
        """Return the mean over the valid patches of the gradient of `cotangents · features`."""
        block = self.visual.transformer.resblocks[-1]
        scaled = self.valid / self.outer_spread

        # ln_post: one vector arrives at every patch, less what the norm removes from it there
        ahead = F.linear(cotangents, self.visual.proj) * self.visual.ln_post.weight
        ahead = (ahead - ahead.mean(dim=-1, keepdim=True))[:, None]
        along = (self.outer * ahead).mean(dim=-1, keepdim=True)
        outer = (ahead - along * self.outer) * scaled

        # perceptron and ln_2
        hidden = (ahead @ _read_second_layer(block) - along * self.echo) * scaled * self.slope
        middle = outer + self._derive_middle((hidden @ block.mlp.c_fc.weight) * block.ln_2.weight)

        # attention: the gradients by queries, keys and values, each summed over the patches; a row
        # of logits cannot gain as a whole, so its patches together lose what the class token gains
        mixed = split_heads(middle @ _read_output_layer(block), block.attn.num_heads)
        leak = (mixed * self.mixed).sum(dim=-1, keepdim=True)
        backward = self.weights.transpose(-1, -2)
        arrived = backward @ mixed
        by_key = (arrived * self.values).sum(dim=-1, keepdim=True) - backward @ leak
        by_class = self.weights[..., :1] * (
            (mixed * self.values[:, :, :1]).sum(dim=-1, keepdim=True) - leak
        )
        scale = mixed.shape[-1] ** -0.5
        parts = (scale * by_key * self.keys, -scale * by_class * self.queries, arrived[:, :, 1:])
        summed = torch.cat([part.sum(dim=2).flatten(1) for part in parts], dim=-1)
        return (summed @ block.attn.in_proj_weight) / self._count().square()

    def jvp(self, tangents: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return the change of the features when every valid patch gains `tangents / patches`."""
        block = self.visual.transformer.resblocks[-1]
        scaled = self.valid / self.outer_spread
        moves = F.linear(tangents, block.attn.in_proj_weight).unflatten(
            -1, (3, block.attn.num_heads, 1, -1)
        )
        query, key, value = moves.unbind(dim=1)

        # attention: moving the keys of all patches one way is moving that of the class token the
        # other way, since what a whole row of logits gains is lost in the softmax
        scale, to_class = key.shape[-1] ** -0.5, self.weights[..., :1]
        lift = scale * (self.keys @ query.transpose(-1, -2))
        lift = lift - lift.mean(dim=2, keepdim=True)
        drop = scale * (self.queries @ key.transpose(-1, -2)) * to_class
        mixed = self.weights @ (lift * self.values) - drop * self.values[:, :, :1]
        mixed = mixed - (self.weights @ lift - drop) * self.mixed + (1 - to_class) * value
        middle = F.linear(merge_heads(mixed), _read_output_layer(block))

        # ln_2 and perceptron, whose second layer waits until the patches are summed
        hidden = self.slope * F.linear(
            self._derive_middle(middle) * block.ln_2.weight, block.mlp.c_fc.weight
        )
        along = (self.outer * middle).sum(dim=-1, keepdim=True) + (self.echo * hidden).sum(
            dim=-1, keepdim=True
        )
        summed = (middle * scaled).sum(dim=1) + F.linear(
            (hidden * scaled).sum(dim=1), _read_second_layer(block)
        )

        # ln_post
        lost = (self.outer * along * scaled).sum(dim=1) / self.outer.shape[-1]
        summed = (summed - summed.mean(dim=-1, keepdim=True) - lost) * self.visual.ln_post.weight
        return (summed @ self.visual.proj) / self._count().square()

    def _derive_middle(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Apply the derivative of the inner norm, which is symmetric: it serves both directions."""
        along = (self.middle * x).mean(dim=-1, keepdim=True)
        return (x - x.mean(dim=-1, keepdim=True) - along * self.middle) / self.middle_spread

    def _count(self) -> Float[Tensor, "B 1"]:
        return self.valid.sum(dim=1).clamp_min(1)


def open_last_block(
    visual: VisionTransformer, inputs: Float[Tensor, "B L D"], valid: Bool[Tensor, "B N"]
) -> LastBlock:
    """Run the last block for the patches and keep what its derivatives need; padding is unseen."""
    # attention
    block = visual.transformer.resblocks[-1]
    normed = block.ln_1(inputs)
    queries, keys, values = project_heads(block, normed)
    queries = queries[:, :, 1:]
    weights = weigh_keys(queries, keys, show_keys(valid))
    mixed = weights @ values
    state = inputs[:, 1:] + block.ls_1(block.attn.out_proj(merge_heads(mixed)))

    # perceptron and ln_post
    middle, middle_spread = _standardise(state, block.ln_2.eps)
    hidden, slope = _activate(block, middle * block.ln_2.weight + block.ln_2.bias)
    state = state + block.ls_2(block.mlp.c_proj(hidden))
    outer, outer_spread = _standardise(state, visual.ln_post.eps)
    centre = values.mean(dim=2, keepdim=True)
    return LastBlock(
        visual=visual,
        valid=valid[..., None].to(outer.dtype),
        activations=normed[:, 1:],
        queries=queries,
        keys=keys,
        values=values - centre,
        weights=weights,
        mixed=mixed - centre,
        middle=middle,
        middle_spread=middle_spread,
        slope=slope,
        outer=outer,
        outer_spread=outer_spread,
        echo=outer @ _read_second_layer(block),
    )


class PairVjp(torch.autograd.Function):
    """The vjp of P pairs, from the features to the channels; its own derivative is the jvp."""

    @staticmethod
    def forward(
        ctx: Any, gradients: Float[Tensor, "P E"], block: LastBlock, pairs: Pairs
    ) -> Float[Tensor, "P D"]:
        """Compute the vjp of every pair, all pairs of one rank at once."""
        ctx.block, ctx.pairs = block, pairs
        device = gradients.device.type
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        return map_pairs(LastBlock.vjp, block, gradients, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tangents: Float[Tensor, "P D"]) -> tuple[Tensor, None, None]:
        """Compute the jvp of every pair, in the precision of the forward pass."""
        with torch.autocast(**ctx.autocast):
            moved = map_pairs(LastBlock.jvp, ctx.block, tangents, ctx.pairs)
        return moved, None, None


def map_pairs(
    derivative: Callable[[LastBlock, Tensor], Tensor],
    block: LastBlock,
    vectors: Float[Tensor, "P n"],
    pairs: Pairs,
) -> Float[Tensor, "P m"]:
    """Send the vectors of P pairs through the last block, by `LastBlock.vjp` or `LastBlock.jvp`.

    The first pairs of all images go together, then the second ones, and so on.
    """
    # the map is linear: vectors of size one are out of reach of half precision's limits
    size = vectors.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    vectors = vectors / size

    moved = []
    for chosen in pairs.by_rank:
        images = pairs.images[chosen]
        moved.append(derivative(block.take(images), vectors[chosen]).to(vectors.dtype))
    return torch.cat(moved)[torch.cat(pairs.by_rank).argsort()] * size


def _standardise(x: Float[Tensor, "B N D"], eps: float) -> tuple[Tensor, Tensor]:
    """Return the standardised rows and their spread."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    spread = (variance + eps).sqrt()
    return (x - mean) / spread, spread


def _activate(block: Block, x: Float[Tensor, "B N D"]) -> tuple[Tensor, Tensor]:
    """Return the hidden layer and the derivative of its activation function."""
    with torch.enable_grad():
        before = block.mlp.c_fc(x).detach().requires_grad_()
        after = block.mlp.gelu(before)
        (slope,) = torch.autograd.grad(after.sum(), before)
    return after.detach(), slope


def _read_output_layer(block: Block) -> Float[Tensor, "D D"]:
    """Read the weights that merge the heads, with the block's layer scale if it has one."""
    gain = getattr(block.ls_1, "gamma", None)
    return (
        block.attn.out_proj.weight if gain is None else gain[:, None] * block.attn.out_proj.weight
    )


def _read_second_layer(block: Block) -> Float[Tensor, "D hidden"]:
    """Read the weights of the perceptron's second layer, with the block's layer scale if any."""
    gain = getattr(block.ls_2, "gamma", None)
    return block.mlp.c_proj.weight if gain is None else gain[:, None] * block.mlp.c_proj.weight
