"""Softmax Grad-CAM for the present (image, class) pairs, differentiable by the text features
(METHOD 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.clip.last_block import LastBlock
from fmawsss.precision import multiply, widen

Softmax = Callable[[Tensor, Tensor], Tensor]


def present_pairs(labels: Bool[Tensor, "B C"]) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
    """Return image and class of every present pair, images first."""
    images, classes = labels.nonzero(as_tuple=True)
    return images, classes


def compute_logits(
    image_features: Float[Tensor, "B E"],
    text_features: Float[Tensor, "T E"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, "B T"]:
    """Return `scale` times the cosines between images and prompts, never in half precision.

    `scale` is exp(logit_scale), about 100.
    """
    images = F.normalize(widen(image_features), dim=-1)
    texts = F.normalize(widen(text_features), dim=-1)
    return multiply(widen(scale) * images, texts.T)


def softmax_over_present(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, "B T"]:
    """Compare the present classes of an image and all background prompts; absent classes get 0."""
    return _softmax_where(logits, _join_background(logits, labels))


def softmax_over_present_released(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, "B T"]:
    """Compare as the released code does: absent classes set the maximum, and 1e-5 joins the sum
    (METHOD 9).
    """
    return _softmax_where_released(logits, _join_background(logits, labels))


def softmax_over_all(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, "B T"]:
    """Compare all classes and background prompts, present or not."""
    return logits.softmax(dim=-1)


def softmax_over_positives(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, "B T"]:
    """Compare the present classes with each other; an image with a single one keeps its raw logits."""
    present = F.pad(labels, (0, logits.shape[1] - labels.shape[1]))
    return torch.where(
        labels.sum(dim=1, keepdim=True) == 1, logits, _softmax_where(logits, present)
    )


def softmax_over_positives_released(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, "B T"]:
    """Compare the present classes with each other, with the released softmax (METHOD 9)."""
    present = F.pad(labels, (0, logits.shape[1] - labels.shape[1]))
    return torch.where(
        labels.sum(dim=1, keepdim=True) == 1, logits, _softmax_where_released(logits, present)
    )


def compute_cams(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Return the logits and the CAM of every present pair, signed; cells that are padding are 0.

    Gradients reach the text features through the weights of the CAM. Nothing of the image encoder
    is differentiated by
    autograd: works in inference mode, under autocast and in float64 alike.
    """
    logits, cams = _trace_cams(clip, tokens, text_features, labels, softmax)
    images, _ = present_pairs(labels)
    return logits, (cams * tokens.valid[images]).unflatten(1, tokens.grid)


def repeat_edges(
    cams: Float[Tensor, "P h w"], valid: Bool[Tensor, "P N"]
) -> Float[Tensor, "P h w"]:
    """Continue CAMs into their padding, right and below, so that resizing meets the edge of the
    image there, not 0.
    """
    inside = valid.unflatten(1, cams.shape[1:])
    rows, columns = inside.any(dim=2).sum(1, keepdim=True), inside.any(dim=1).sum(1, keepdim=True)
    across, down = (torch.arange(size, device=cams.device) for size in cams.shape[:0:-1])
    pairs = torch.arange(len(cams), device=cams.device)[:, None, None]
    return cams[pairs, down.minimum(rows - 1)[:, :, None], across.minimum(columns - 1)[:, None]]


def compute_cams_released(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Compute CAMs as the released code does: padding counts in the mean and keeps its values
    (METHOD 9).
    """
    logits, cams = _trace_cams(clip, tokens, text_features, labels, softmax)
    images, _ = present_pairs(labels)
    share = tokens.valid[images].to(cams.dtype).mean(dim=1, keepdim=True)
    return logits, (cams * share).unflatten(1, tokens.grid)


class PullPairs(torch.autograd.Function):
    """Carry gradients by the features of P pairs to the channels of the last block, and back by the
    transposed map.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gradients: Float[Tensor, "P E"],
        block: LastBlock,
        images: Int[Tensor, "P"],
        ranks: Int[Tensor, "P"],
    ) -> Float[Tensor, "P D"]:
        """Pull every pair, all pairs of one rank at once."""
        ctx.block, ctx.images, ctx.ranks = block, images, ranks
        device = gradients.device.type
        ctx.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        return map_pairs(LastBlock.pull, block, gradients, images, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tangents: Float[Tensor, "P D"]) -> tuple[Tensor, None, None, None]:
        """Push every pair, in the precision of the forward pass."""
        with torch.autocast(**ctx.autocast):
            return (
                map_pairs(LastBlock.push, ctx.block, tangents, ctx.images, ctx.ranks),
                None,
                None,
                None,
            )


def map_pairs(
    transport: Callable[[LastBlock, Tensor], Tensor],
    block: LastBlock,
    vectors: Float[Tensor, "P n"],
    images: Int[Tensor, "P"],
    ranks: Int[Tensor, "P"],
) -> Float[Tensor, "P m"]:
    """Send the vectors of P pairs through the last block: the first pairs of all images, then the
    second ones, …

    The map is linear, so vectors travel at size one, out of reach of half precision's limits.
    """
    size = vectors.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    vectors, moved, pairs = vectors / size, [], []
    for rank in range(int(ranks.max()) + 1 if len(ranks) else 1):
        chosen = (ranks == rank).nonzero().flatten()
        moved.append(transport(block.take(images[chosen]), vectors[chosen]).to(vectors.dtype))
        pairs.append(chosen)
    return torch.cat(moved)[torch.cat(pairs).argsort()] * size


def _trace_cams(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P N"]]:
    """Return the logits and the CAMs, padding included."""
    with torch.inference_mode(False):
        tokens, text_features = _leave_inference(tokens), _leave_inference(text_features)
        with torch.no_grad():
            block, scale = clip.open_last_block(tokens), clip.logit_scale.exp()
            features = block.features
        images, classes = present_pairs(labels)
        ranks = labels.cumsum(dim=1)[images, classes] - 1
        gradients = differentiate_scores(
            features[images], text_features, scale, labels[images], classes, softmax
        )
        weights = PullPairs.apply(gradients, block, images, ranks)
        cams = weigh_activations(block.activations, weights, images, ranks)
        return compute_logits(features, text_features, scale), cams


def differentiate_scores(
    features: Float[Tensor, "P E"],
    text_features: Float[Tensor, "T E"],
    scale: Float[Tensor, ""],
    labels: Bool[Tensor, "P C"],
    classes: Int[Tensor, "P"],
    softmax: Softmax,
) -> Float[Tensor, "P E"]:
    """Return the gradient of each pair's score by its image's feature; itself differentiable by the
    text features.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        scores = softmax(compute_logits(features, text_features, scale), labels)
        chosen = scores.gather(1, classes[:, None]).sum()
        (gradients,) = torch.autograd.grad(
            chosen, features, create_graph=text_features.requires_grad
        )
    return gradients if torch.is_grad_enabled() else gradients.detach()


def weigh_activations(
    activations: Float[Tensor, "B N D"],
    weights: Float[Tensor, "P D"],
    images: Int[Tensor, "P"],
    ranks: Int[Tensor, "P"],
) -> Float[Tensor, "P N"]:
    """Sum the channels of each pair's image, weighted, without copying activations per pair."""
    slots = int(ranks.max()) + 1 if len(ranks) else 1
    placed = weights.new_zeros(len(activations), slots, weights.shape[1]).index_put(
        (images, ranks), weights
    )
    return multiply(placed, activations.transpose(1, 2))[images, ranks]


def _join_background(
    logits: Float[Tensor, "B T"], labels: Bool[Tensor, "B C"]
) -> Bool[Tensor, "B T"]:
    return F.pad(labels, (0, logits.shape[1] - labels.shape[1]), value=True)


def _softmax_where(
    logits: Float[Tensor, "B T"], chosen: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Softmax over the chosen entries; a row without any is 0."""
    empty = ~chosen.any(dim=1, keepdim=True)
    return (
        logits.masked_fill(~(chosen | empty), float("-inf"))
        .softmax(dim=-1)
        .masked_fill(~chosen, 0.0)
    )


def _softmax_where_released(
    logits: Float[Tensor, "B T"], chosen: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    exponentials = (logits - logits.amax(dim=1, keepdim=True)).exp() * chosen
    return exponentials / (exponentials.sum(dim=1, keepdim=True) + 1e-5)


def _leave_inference(x: Any) -> Any:
    """Copy what inference mode made, so that autograd may use it."""
    if isinstance(x, ImageTokens):
        return ImageTokens(
            _leave_inference(x.inputs), _leave_inference(x.valid), x.grid, x.attention
        )
    return x.clone() if x.is_inference() else x
