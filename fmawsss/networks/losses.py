"""Losses of segmentation networks; ignored pixels take no part, several processes learn as one.

`share` replaces a count of this process by the mean over all processes; `keep_count` is that of a
single one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fmawsss.losses import Share, keep_count
from fmawsss.metrics import IGNORE
from fmawsss.networks.targets import PixelTargets


class PixelLoss:
    """Cross-entropy of each pixel, averaged by weight over the pixels of all processes.

    Targets with inner pixels are compared by the collision cross-entropy, and a quadratic Potts
    term is added (METHOD 11.5).
    """

    def __call__(
        self, logits: Float[Tensor, "B R h w"], targets: PixelTargets, share: Share = keep_count
    ) -> Tensor:
        """Compare logits of any resolution with targets.

        Without a valid pixel the loss is 0 and keeps its graph.
        """
        # The loss of each pixel
        logits = F.interpolate(
            logits.float(), size=targets.labels.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = F.cross_entropy(logits, targets.labels, ignore_index=IGNORE, reduction="none")
        if targets.certainty is not None:
            compare = _soften if targets.inner is None else _collide
            loss = compare(loss, logits, targets.certainty)

        # Averaged by weight
        weight = (targets.labels != IGNORE).float()
        weight = weight if targets.weight is None else weight * targets.weight
        average = (weight * loss).sum() / share(weight.sum()).clamp(min=1e-6)
        if targets.inner is None:
            return average
        return average + targets.smoothness * compare_neighbours(logits, targets.inner, share)


def compare_neighbours(
    logits: Float[Tensor, "B R H W"], inner: Bool[Tensor, "B H W"], share: Share = keep_count
) -> Float[Tensor, ""]:
    """Average `½ Σ_c (p_c - q_c)²` over inner pixels p and their right and lower neighbours q.

    A pair counts when both are inner; without any the term is 0.
    """
    answers, total, pairs = logits.softmax(1), logits.new_zeros(()), logits.new_zeros(())
    for axis in (-1, -2):
        steps = inner.shape[axis] - 1
        both = (inner.narrow(axis, 0, steps) & inner.narrow(axis, 1, steps)).float()
        apart = answers.narrow(axis, 0, steps) - answers.narrow(axis, 1, steps)
        total = total + (both * apart.square().sum(1) / 2).sum()
        pairs = pairs + both.sum()
    return total / share(pairs).clamp(min=1e-6)


def _soften(
    loss: Float[Tensor, "B H W"],
    logits: Float[Tensor, "B R H W"],
    certainty: Float[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """Share what is missing to certainty among the other classes."""
    others = -logits.log_softmax(1).sum(1) - loss
    return certainty * loss + (1 - certainty) * others / (logits.shape[1] - 1)


def _collide(
    loss: Float[Tensor, "B H W"],
    logits: Float[Tensor, "B R H W"],
    certainty: Float[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """Return `-log Σ_c p_c y_c`; y shares what is missing to certainty among the other classes.

    p and y are taken to draw a class each: the loss is small when they agree, and a y that knows
    nothing asks nothing of p.
    """
    right = (-loss).exp()
    others = (1 - certainty) / (logits.shape[1] - 1)
    agreement = certainty * right + others * (1 - right)
    return -agreement.clamp_min(torch.finfo(right.dtype).tiny).log()
