"""Losses on image labels that were published as options beside the contrastive one (METHOD 4).

With several processes, each takes the mean of its own images, which needs nothing from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fmawsss.losses import Share, divide, keep_count, log_sum_exp_where

SHARPNESS_EPSILON = 1e-6


def multi_label_soft_margin(
    logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], share: Share = keep_count
) -> Float[Tensor, ""]:
    """Average the binary cross-entropies of all classes."""
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def su_losses(logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """Return `log(1 + Σ e^{S_n} · Σ e^{-S_p})` of each image."""
    return F.softplus(log_sum_exp_where(logits, ~labels) + log_sum_exp_where(-logits, labels))


def thresholded_su_losses(
    logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], threshold: Float[Tensor, ""]
) -> Float[Tensor, "B"]:
    """Return the Su loss of each image when a threshold lies between absent and present classes.

    `log(1 + Σe^{S_n}·Σe^{-S_p} + e^{-t}·Σe^{S_n} + e^{t}·Σe^{-S_p})`, which factors into the two
    terms below; at t = 0 it is ZLPR.
    """
    absent, present = log_sum_exp_where(logits, ~labels), log_sum_exp_where(-logits, labels)
    return F.softplus(absent - threshold) + F.softplus(present + threshold)


class SuLoss(nn.Module):
    """Put present classes above absent ones, by any margin.

    `reduce` is torch.mean or torch.sum, over the images of this process.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(
        self, logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], share: Share = keep_count
    ) -> Float[Tensor, "..."]:
        """Return the reduced loss."""
        return self.reduce(su_losses(logits, labels))


class ThresholdedSuLoss(nn.Module):
    """Put present classes above a threshold and absent ones below it.

    `learned` makes the threshold a parameter; `reduce` is that of `SuLoss`.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor], threshold: float, learned: bool) -> None:
        super().__init__()
        self.reduce = reduce
        self.threshold = nn.Parameter(torch.tensor(float(threshold)), requires_grad=learned)

    def forward(
        self, logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], share: Share = keep_count
    ) -> Float[Tensor, "..."]:
        """Return the reduced loss."""
        return self.reduce(thresholded_su_losses(logits, labels, self.threshold))


def variance_by_mean(
    variance: Float[Tensor, "B"], mean: Float[Tensor, "B"]
) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of the sharpness."""
    return variance, mean


def variation(variance: Float[Tensor, "B"], mean: Float[Tensor, "B"]) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of the coefficient of variation (CV)."""
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt(), mean


def squared_variation(
    variance: Float[Tensor, "B"], mean: Float[Tensor, "B"]
) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of CV²."""
    return variance, mean.square()


def ratio_of_sums(
    numerators: Float[Tensor, "B"], denominators: Float[Tensor, "B"], share: Share
) -> Float[Tensor, ""]:
    """Divide the sum of the numerators by the sum of the denominators (`batch_mean`).

    With several processes the losses average to the ratio of all images, and so do the gradients
    (quotient rule).
    """
    above, below = numerators.sum(), denominators.sum()
    whole = share(below.detach()) + SHARPNESS_EPSILON
    return (above - share(above.detach()) / whole * (below - below.detach())) / whole


def mean_of_ratios(
    numerators: Float[Tensor, "B"], denominators: Float[Tensor, "B"], share: Share
) -> Float[Tensor, ""]:
    """Average the ratios of the images (`mean`)."""
    return divide(
        (numerators / (denominators + SHARPNESS_EPSILON)).sum(),
        numerators.new_tensor(len(numerators)),
        share,
    )


@dataclass(frozen=True)
class SharpnessLoss:
    """Make the logits of an image's present classes equal.

    The variance of these logits is divided by their number less `correction`. `measure` says what
    the variance is compared with, `average` how images are put together. Images with fewer than two
    present classes do not count; a batch without any other gives 0 with a graph.
    """

    measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    average: Callable[[Tensor, Tensor, Share], Tensor]
    correction: int

    def __call__(
        self, logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], share: Share = keep_count
    ) -> Float[Tensor, ""]:
        """Return the loss."""
        valid = labels.sum(dim=1) >= 2
        logits, labels = logits[valid], labels[valid].to(logits.dtype)
        count = labels.sum(dim=1)
        mean = (logits * labels).sum(dim=1) / count
        variance = ((logits - mean[:, None]).square() * labels).sum(dim=1) / (
            count - self.correction
        )
        return self.average(*self.measure(variance, mean), share)


class SumOfLosses:
    """Several losses on image labels, each with its weight."""

    def __init__(self, losses: Sequence[Callable[..., Tensor]], weights: Sequence[float]) -> None:
        if len(losses) != len(weights):
            raise ValueError(f"{len(losses)} losses and {len(weights)} weights: give each loss one")
        self.losses = list(losses)
        self.weights = list(weights)

    def __call__(
        self, logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"], share: Share = keep_count
    ) -> Float[Tensor, ""]:
        """Return the weighted sum."""
        terms = [loss(logits, labels, share=share) for loss in self.losses]
        return torch.stack(
            [weight * term for weight, term in zip(self.weights, terms, strict=True)]
        ).sum()
