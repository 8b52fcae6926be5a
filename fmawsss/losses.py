"""The two losses of the method: multi-label contrastive, and CAM activation (METHOD 4).

A count that divides a sum passes through `share`. With several processes, `share` replaces the
count of this process by the mean count of all, and together they learn as one process would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from fmawsss.metrics import IGNORE
from fmawsss.precision import widen

Share = Callable[[Tensor], Tensor]


def keep_count(count: Tensor) -> Tensor:
    """Leave the count of this process as it is."""
    return count


def divide(total: Float[Tensor, ""], count: Tensor, share: Share) -> Float[Tensor, ""]:
    """Divide a sum by its shared count; nothing counted gives 0, still with a graph."""
    count = share(count.to(total.dtype))
    return total / torch.where(count > 0, count, torch.ones_like(count))


def log_sum_exp_where(x: Float[Tensor, "B C"], chosen: Bool[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Return the log of the sum of exponentials of the chosen entries.

    A row without any gives -inf, and no gradient.
    """
    filled = chosen.any(dim=1)
    safe = x.masked_fill(~chosen & filled[:, None], float("-inf")).logsumexp(dim=1)
    return torch.where(filled, safe, float("-inf"))


def average_pairs(
    losses: Float[Tensor, "B C"], counted: Bool[Tensor, "B C"], share: Share
) -> Float[Tensor, ""]:
    """Average over all counted (image, class) pairs of the batch (`pos_mean`)."""
    return divide(losses.sum(), counted.sum(), share)


def average_images(
    losses: Float[Tensor, "B C"], counted: Bool[Tensor, "B C"], share: Share
) -> Float[Tensor, ""]:
    """Average over the pairs of each image, then over the images with any (`sample_mean`)."""
    pairs = counted.sum(dim=1)
    return divide((losses.sum(dim=1) / pairs.clamp_min(1)).sum(), (pairs > 0).sum(), share)


@dataclass(frozen=True)
class ContrastiveLoss:
    """Compare each present class with all absent classes of its image.

    `-log(exp(S_p) / (exp(S_p) + Σ_n exp(S_n)))` with S = gamma · logits, averaged by `average`.
    Images without a present class or without an absent one do not count.
    """

    gamma: float
    average: Callable[[Tensor, Tensor, Share], Tensor]

    def __call__(
        self,
        logits: Float[Tensor, "B C"],
        labels: Bool[Tensor, "B C"],
        known: Bool[Tensor, "B C"] | None = None,
        share: Share = keep_count,
    ) -> Float[Tensor, ""]:
        """Return the loss.

        Classes that are not `known` count as neither present nor absent; None: all are known.
        """
        scaled = self.gamma * logits
        present, absent = (labels, ~labels) if known is None else (labels & known, ~labels & known)
        counted = present & absent.any(dim=1, keepdim=True)

        # -log(a / (a + b)) = softplus(log b - log a)
        against = log_sum_exp_where(scaled, absent)
        losses = torch.where(counted, F.softplus(against[:, None] - scaled), 0.0)
        return self.average(losses, counted, share)


@dataclass(frozen=True)
class CamLoss:
    """Both parts of the CAM activation loss, weighted, and their sum."""

    total: Float[Tensor, ""]
    foreground: Float[Tensor, ""]
    background: Float[Tensor, ""]


@dataclass(frozen=True)
class Regions:
    """Sums of distances of P pairs, and numbers of pixels, of foreground and background."""

    foreground: Float[Tensor, "P"]
    background: Float[Tensor, "P"]
    foreground_pixels: Float[Tensor, "P"]
    background_pixels: Float[Tensor, "P"]


def l1(difference: Tensor) -> Tensor:
    """Return |x|."""
    return difference.abs()


def l2(difference: Tensor) -> Tensor:
    """Return ½x²."""
    return 0.5 * difference.square()


def reduce_all(regions: Regions, share: Share) -> tuple[Tensor, Tensor]:
    """Divide both sums by the number of pixels that are not ignored, over all pairs (published)."""
    pixels = (regions.foreground_pixels + regions.background_pixels).sum()
    foreground = divide(regions.foreground.sum(), pixels, share)
    return foreground, divide(regions.background.sum(), pixels, share)


def reduce_fg_bg(regions: Regions, share: Share) -> tuple[Tensor, Tensor]:
    """Halve each sum and divide it by its own number of pixels + 1e-5, over all pairs."""
    foreground = 0.5 * regions.foreground.sum() / (share(regions.foreground_pixels.sum()) + 1e-5)
    background = 0.5 * regions.background.sum() / (share(regions.background_pixels.sum()) + 1e-5)
    return foreground, background


def reduce_fg_bg_per_positive(regions: Regions, share: Share) -> tuple[Tensor, Tensor]:
    """Halve each pair's sums, divide them by their own number of pixels + 1e-5, average pairs."""
    pairs = regions.foreground.new_tensor(len(regions.foreground))
    foreground = 0.5 * regions.foreground / (regions.foreground_pixels + 1e-5)
    background = 0.5 * regions.background / (regions.background_pixels + 1e-5)
    return divide(foreground.sum(), pairs, share), divide(background.sum(), pairs, share)


@dataclass(frozen=True)
class CamActivationLoss:
    """Lift a class's CAM to its peak all over the class's seed, and press it down elsewhere.

    `distance` is `l1` or `l2`, `reduce` one of the `reduce_*`. The peak is the largest CAM value on
    the seed, and at least 0; `detach_peak` holds it fixed. Outside, what exceeds `threshold` costs.
    CAMs are divided by `initial_peak` first (1 leaves them as they are; the loss is not
    scale-invariant).
    """

    distance: Callable[[Tensor], Tensor]
    reduce: Callable[[Regions, Share], tuple[Tensor, Tensor]]
    threshold: float
    detach_peak: bool
    initial_peak: float
    foreground_weight: float
    background_weight: float

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        seeds: Integer[Tensor, "B H W"],
        images: Int[Tensor, "P"],
        classes: Int[Tensor, "P"],
        share: Share = keep_count,
    ) -> CamLoss:
        """Compare each pair's CAM with the seed: 0 background, class index + 1, 255 ignored."""
        regions = self.measure(cams, seeds[images], classes)
        foreground, background = self.reduce(regions, share)
        foreground = self.foreground_weight * foreground
        background = self.background_weight * background
        return CamLoss(foreground + background, foreground, background)

    def measure(
        self,
        cams: Float[Tensor, "P h w"],
        seeds: Integer[Tensor, "P H W"],
        classes: Int[Tensor, "P"],
    ) -> Regions:
        """Sum the distances of each pair over its foreground and its background."""
        # f and b of METHOD 4, and the CAM at the size of the seed
        inside = seeds == classes[:, None, None] + 1
        outside = ~inside & (seeds != IGNORE)
        maps = resize_cams(cams / self.initial_peak, (seeds.shape[1], seeds.shape[2]))

        # |m - CAM| on f, max(CAM, threshold) - threshold on b; m is never below 0
        peaks = (maps * inside).flatten(1).amax(dim=1).clamp_min(0)[:, None, None]
        missing = self.distance((peaks.detach() if self.detach_peak else peaks) - maps)
        excess = self.distance(maps.clamp_min(self.threshold) - self.threshold)
        return Regions(
            foreground=torch.where(inside, missing, 0.0).sum(dim=(1, 2)),
            background=torch.where(outside, excess, 0.0).sum(dim=(1, 2)),
            foreground_pixels=inside.sum(dim=(1, 2)).to(maps.dtype),
            background_pixels=outside.sum(dim=(1, 2)).to(maps.dtype),
        )


def resize_cams(cams: Float[Tensor, "P h w"], size: tuple[int, int]) -> Float[Tensor, "P H W"]:
    """Resize CAMs bilinearly (align_corners false), never in half precision."""
    cams = widen(cams)
    if tuple(cams.shape[1:]) == size:
        return cams
    return F.interpolate(cams[:, None], size, mode="bilinear", align_corners=False)[:, 0]
