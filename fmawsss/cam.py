"""Softmax Grad-CAM of the present classes, differentiable by the text features (METHOD 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.clip.last_block import PairVjp
from fmawsss.clip.pairs import Pairs, list_pairs
from fmawsss.precision import multiply, widen

Softmax = Callable[[Tensor, Tensor], Tensor]


def compute_cams_plainly(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
    pairs: Pairs | None = None,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Return the logits and the CAM of every present pair, signed; cells that are padding are 0.

    The formula of METHOD 3 by autograd, never in half precision. `compute_cams` is twice as fast.
    `pairs` are those of the labels, where they are listed already.
    """
    pairs = pairs or list_pairs(labels)
    keep_graph = torch.is_grad_enabled() and text_features.requires_grad
    whole = torch.autocast(labels.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), whole:
        # a: the patches after ln_1 of the last block, a row of its own for every pair
        pairs = _leave_inference(pairs)
        images, classes = pairs.images, pairs.classes
        rows = tokens.take(images)
        activations = clip.read_activations(rows).detach().requires_grad_()

        # s_c: the probability of the pair's class, from there through the rest of the network
        features = clip.pool_images(rows, activations)
        logits = compute_logits(features, text_features, clip.logit_scale.exp())
        chosen = softmax(logits, labels[images]).gather(1, classes[:, None])

        # w_c: the mean of ds_c / da over the patches that are not padding
        (gradients,) = torch.autograd.grad(chosen.sum(), activations, create_graph=keep_graph)
        valid = rows.valid.to(gradients.dtype)
        weights = torch.einsum("pnd,pn->pd", gradients, valid) / valid.sum(dim=1, keepdim=True)

        # CAM_c: the sum over channels of a * w_c
        cams = torch.einsum("pnd,pd->pn", activations.detach(), weights) * valid

    # the logits of all images, those without a present class as well
    logits = compute_logits(clip.pool_images(tokens), text_features, clip.logit_scale.exp())
    return logits, cams.unflatten(1, tokens.grid)


def compute_cams(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
    pairs: Pairs | None = None,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Compute what `compute_cams_plainly` does, faster: the derivatives are written out.

    Only the softmax is differentiated by autograd; from the image features to the activations,
    `clip/last_block.py` has the vjp. Works in inference mode, under autocast and in float64 alike.
    """
    pairs = pairs or list_pairs(labels)
    logits, cams = _trace_cams(clip, tokens, text_features, labels, softmax, pairs)
    return logits, (cams * tokens.valid[pairs.images]).unflatten(1, tokens.grid)


def compute_cams_released(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
    pairs: Pairs | None = None,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Return logits and CAMs as the released code does: padding counts as image (METHOD 9)."""
    pairs = pairs or list_pairs(labels)
    logits, cams = _trace_cams(clip, tokens, text_features, labels, softmax, pairs)
    share = tokens.valid[pairs.images].to(cams.dtype).mean(dim=1, keepdim=True)
    return logits, (cams * share).unflatten(1, tokens.grid)


def present_pairs(labels: Bool[Tensor, "B C"]) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
    """Return image and class of every present pair, images first."""
    pairs = list_pairs(labels)
    return pairs.images, pairs.classes


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
    """Compare as the released code does (METHOD 9).

    Absent classes count in the maximum that is subtracted, and 1e-5 is added to the sum.
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
    """Compare the present classes with each other; an image with one class keeps its raw logits."""
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


def repeat_edges(
    cams: Float[Tensor, "P h w"], valid: Bool[Tensor, "P N"]
) -> Float[Tensor, "P h w"]:
    """Continue CAMs into their padding, right and below, by the values at the edge of the image.

    A CAM that is resized then meets its own values there, not 0.
    """
    inside = valid.unflatten(1, cams.shape[1:])
    rows, columns = inside.any(dim=2).sum(1, keepdim=True), inside.any(dim=1).sum(1, keepdim=True)
    across, down = (torch.arange(size, device=cams.device) for size in cams.shape[:0:-1])
    pairs = torch.arange(len(cams), device=cams.device)[:, None, None]
    return cams[pairs, down.minimum(rows - 1)[:, :, None], across.minimum(columns - 1)[:, None]]


def _trace_cams(
    clip: FrozenClip,
    tokens: ImageTokens,
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
    softmax: Softmax,
    pairs: Pairs,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P N"]]:
    """Return the logits and the CAMs, padding included."""
    with torch.inference_mode(False):
        tokens, text_features = _leave_inference(tokens), _leave_inference(text_features)
        pairs = _leave_inference(pairs)
        with torch.no_grad():
            block, scale = clip.open_last_block(tokens), clip.logit_scale.exp()
            features = block.features

        # ds_c / df by autograd, from there to the activations by a vjp
        images = pairs.images
        gradients = differentiate_softmax(
            features[images], text_features, scale, labels[images], pairs.classes, softmax
        )
        weights = PairVjp.apply(gradients, block, pairs)
        cams = weigh_activations(block.activations, weights, pairs)
        return compute_logits(features, text_features, scale), cams


def differentiate_softmax(
    features: Float[Tensor, "P E"],
    text_features: Float[Tensor, "T E"],
    scale: Float[Tensor, ""],
    labels: Bool[Tensor, "P C"],
    classes: Int[Tensor, "P"],
    softmax: Softmax,
) -> Float[Tensor, "P E"]:
    """Differentiate each pair's probability by its image's feature.

    The result can be differentiated by the text features.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        probabilities = softmax(compute_logits(features, text_features, scale), labels)
        chosen = probabilities.gather(1, classes[:, None]).sum()
        (gradients,) = torch.autograd.grad(
            chosen, features, create_graph=text_features.requires_grad
        )
    return gradients if torch.is_grad_enabled() else gradients.detach()


def weigh_activations(
    activations: Float[Tensor, "B N D"],
    weights: Float[Tensor, "P D"],
    pairs: Pairs,
) -> Float[Tensor, "P N"]:
    """Return the weighted sum over channels, without a copy of the activations for every pair."""
    slots, places = len(pairs.by_rank), (pairs.images, pairs.ranks)
    placed = weights.new_zeros(len(activations), slots, weights.shape[1]).index_put(places, weights)
    return multiply(placed, activations.transpose(1, 2))[places]


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
    if isinstance(x, Pairs):
        return x.map_tensors(_leave_inference)
    if isinstance(x, ImageTokens):
        inputs, valid = _leave_inference(x.inputs), _leave_inference(x.valid)
        return ImageTokens(inputs, valid, x.grid, x.attention)
    return x.clone() if x.is_inference() else x
