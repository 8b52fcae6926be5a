"""Losses of segmentation networks; ignored pixels take no part, several processes learn as one.

`share` replaces a count of this process by the mean over all processes; `keep_count` is that of a
single one.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fmawsss.losses import Share, keep_count
from fmawsss.metrics import IGNORE
from fmawsss.networks.targets import PixelTargets


class PixelLoss:
    """Cross-entropy of each pixel, averaged by weight over the pixels of all processes."""

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
            loss = _soften(loss, logits, targets.certainty)

        # Averaged by weight
        weight = (targets.labels != IGNORE).float()
        weight = weight if targets.weight is None else weight * targets.weight
        return (weight * loss).sum() / share(weight.sum()).clamp(min=1e-6)


def _soften(
    loss: Float[Tensor, "B H W"],
    logits: Float[Tensor, "B R H W"],
    certainty: Float[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """Share what is missing to certainty among the other classes."""
    others = -logits.log_softmax(1).sum(1) - loss
    return certainty * loss + (1 - certainty) * others / (logits.shape[1] - 1)
