"""What a network learns from a seed: the pixels' labels, their weights, and how sure labels are.

A seed's confidence is the 8-bit picture that lies beside it: 0 where no superpixel speaks for the
pixel, else 1 to 255 for the winning score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fmawsss.metrics import IGNORE

Seeds = UInt8[Tensor, "B H W"]
Confidence = UInt8[Tensor, "B H W"] | None
Clearance = UInt8[Tensor, "B H W"]


@dataclass(frozen=True)
class PixelTargets:
    """Targets of a batch; pixels of label 255 take no part, whatever their weight."""

    labels: Int64[Tensor, "B H W"]
    weight: Float[Tensor, "B H W"] | None = None  # None weighs all pixels alike
    # Probability of the label; what is missing to 1 is shared by the other classes
    certainty: Float[Tensor, "B H W"] | None = None
    # Where neighbours are to be answered alike; None asks it of none
    inner: Bool[Tensor, "B H W"] | None = None
    smoothness: float = 0.0  # the weight of that


def trust_corrected(
    targets: PixelTargets, seeds: Seeds, trusted: Bool[Tensor, "B H W"] | None
) -> PixelTargets:
    """Learn what a person has corrected with weight 1 and full certainty, whatever the targets say.

    trusted: marks those pixels of the seeds; None where there are none.
    """
    if trusted is None:
        return targets
    weight, certainty = (
        None if share is None else share.masked_fill(trusted, 1.0)
        for share in (targets.weight, targets.certainty)
    )
    return replace(
        targets,
        labels=torch.where(trusted, seeds.long(), targets.labels),
        weight=weight,
        certainty=certainty,
        inner=None if targets.inner is None else targets.inner & ~trusted,
    )


def trust_seeds(seeds: Seeds, confidence: Confidence) -> PixelTargets:
    """Take every seed pixel for true."""
    return PixelTargets(seeds.long())


def ignore_unsure(seeds: Seeds, confidence: Confidence, threshold: float) -> PixelTargets:
    """Ignore pixels whose confidence (0…1) is below the threshold."""
    return PixelTargets(
        seeds.long().masked_fill(_require_confidence(confidence) < threshold, IGNORE)
    )


def ignore_uncovered(seeds: Seeds, confidence: Confidence) -> PixelTargets:
    """Ignore the pixels outside all superpixels; the published seeding calls them background."""
    return PixelTargets(seeds.long().masked_fill(_require_confidence(confidence) == 0, IGNORE))


def weigh_by_confidence(seeds: Seeds, confidence: Confidence) -> PixelTargets:
    """Weigh each pixel by its confidence."""
    return PixelTargets(seeds.long(), weight=_require_confidence(confidence))


def soften_by_confidence(seeds: Seeds, confidence: Confidence, floor: float) -> PixelTargets:
    """Take each label for true with a probability that grows with its confidence.

    floor: the probability at confidence 0; it is 1 at full confidence.
    """
    return PixelTargets(
        seeds.long(), certainty=floor + (1 - floor) * _require_confidence(confidence)
    )


def know_edges(
    seeds: Seeds,
    confidence: Confidence,
    floor: float,
    smoothness: float,
    radius: int,
    clearance: Clearance | None = None,
) -> PixelTargets:
    """Soften labels as `soften_by_confidence`; answers change at outlines only (METHOD 11.5).

    smoothness: the weight of what neighbours within superpixels differ by.
    radius: so many pixels of the image around an outline are free.
    """
    if clearance is None:
        raise ValueError("these targets need superpixels: name them with targets.superpixels=…")
    soft = soften_by_confidence(seeds, confidence, floor)
    inner = (clearance > radius) & (clearance != IGNORE)
    return replace(soft, inner=inner, smoothness=smoothness)


def ignore_boundaries(seeds: Seeds, confidence: Confidence, radius: int) -> PixelTargets:
    """Ignore the pixels that have another label within `radius`, since seeds end roughly.

    radius: half the side of a square, in pixels.
    """
    return PixelTargets(seeds.long().masked_fill(find_boundaries(seeds, radius), IGNORE))


def find_boundaries(seeds: Seeds, radius: int) -> Bool[Tensor, "B H W"]:
    """Find the pixels around which more than one label occurs; 255 counts as none.

    radius: half the side of the square around a pixel, `2 · radius + 1` pixels wide.
    """
    ignored = seeds == IGNORE
    values = seeds[:, None].float()
    highest = _pool_square(values.masked_fill(ignored[:, None], -1), radius)
    lowest = -_pool_square(-values, radius)  # 255 is never the lowest of several
    return (highest > lowest)[:, 0] & ~ignored


def _pool_square(values: Float[Tensor, "B 1 H W"], radius: int) -> Float[Tensor, "B 1 H W"]:
    """Take the maximum in a square around each pixel, row by row, then column by column."""
    side = 2 * radius + 1
    rows = F.max_pool2d(values, (1, side), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius, 0))


def _require_confidence(confidence: Confidence) -> Float[Tensor, "B H W"]:
    """Return confidences between 0 and 1; raises ValueError when there are none."""
    if confidence is None:
        raise ValueError(
            "these targets need the confidence of the seeds: write it with "
            "callbacks=seed_confidence (task=seg, or task=memory), or choose targets=hard"
        )
    return confidence.float() / 255
