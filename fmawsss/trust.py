"""Pixels that a person has corrected: exact values for a memory, and seeds that show them.

A trusted mask holds 0 for background, class index + 1, and 255 where nobody touched the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fmawsss.metrics import IGNORE
from fmawsss.resizing import Size, find_nearest, resize_mask
from fmawsss.seeding import Seed
from fmawsss.superpixels import Superpixels

FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)  # on the background, that corrections choose of


def correct_values(
    values: Float[Tensor, "M R"], trusted: UInt8[Tensor, "H W"], superpixels: Superpixels
) -> Float[Tensor, "M R"]:
    """Return what superpixels were taken for, with what is known of their pixels; rows sum to 1.

    It is the mean over the pixels of a superpixel: a trusted one counts for its label, any other
    for the value that the superpixel had. Where all are trusted, that is their label histogram.
    """
    counts = count_labels(trusted, superpixels, values.shape[1]).to(values)
    known = counts.sum(dim=1, keepdim=True)
    owner, _ = superpixels.pixels()
    pixels = torch.bincount(owner, minlength=len(superpixels)).to(values)[:, None].clamp_min(1)
    return (counts + (pixels - known) * values) / pixels


def count_labels(
    trusted: UInt8[Tensor, "H W"], superpixels: Superpixels, labels: int
) -> Int64[Tensor, "M R"]:
    """Count the trusted pixels of each superpixel by their label, the background first."""
    owner, pixel = superpixels.pixels()
    label = trusted.T.flatten()[pixel].long()
    known = label != IGNORE
    places = owner[known] * labels + label[known]
    return torch.bincount(places, minlength=len(superpixels) * labels).view(-1, labels)


def list_trusted_classes(trusted: UInt8[Tensor, "H W"], classes: int) -> Bool[Tensor, "C"]:
    """Say which classes trusted pixels show."""
    return torch.bincount(trusted.flatten().long(), minlength=IGNORE + 1)[1 : classes + 1] > 0


def fit_trusted(trusted: UInt8[Tensor, "A B"], size: Size) -> UInt8[Tensor, "H W"]:
    """Bring a trusted mask to the size of a copy of its image, by nearest pixels."""
    return torch.from_numpy(resize_mask(trusted.cpu().numpy(), size))


def lay_trusted(seed: Seed, trusted: UInt8[Tensor, "A B"]) -> Seed:
    """Lay trusted pixels over a seed; they are sure. A seed of a copy is enlarged to the image."""
    size = (trusted.shape[0], trusted.shape[1])
    seed = enlarge_seed(seed, size)
    known = trusted != IGNORE
    return replace(
        seed,
        labels=torch.where(known, trusted, seed.labels),
        confidence=seed.confidence.masked_fill(known, 1.0),
    )


def enlarge_seed(seed: Seed, size: Size) -> Seed:
    """Enlarge a seed to the size of its image, by nearest pixels."""
    old = seed.labels.shape
    rows, columns = (torch.as_tensor(find_nearest(*pair)) for pair in zip(old, size, strict=True))
    labels, confidence = (part.cpu()[rows][:, columns] for part in (seed.labels, seed.confidence))
    return replace(seed, labels=labels, confidence=confidence)


def weigh_background(scores: Float[Tensor, "M R"], factor: float) -> Float[Tensor, "M R"]:
    """Multiply the score of the background, which stays at most 1; the others are as they were."""
    if factor == 1:
        return scores
    return torch.cat([(factor * scores[:, :1]).clamp_max(1), scores[:, 1:]], dim=1)


def choose_factor(overlaps: Mapping[float, Sequence[float]]) -> float:
    """Choose the factor whose seeds overlap most with trusted masks; of equal ones, the next to 1.

    overlaps: of each factor, the overlap of each corrected image; without any it is 1.
    """

    def rank(factor: float) -> tuple[float, float]:
        return -sum(overlaps[factor]), abs(math.log(factor))

    return min(overlaps, key=rank)


def measure_overlap(labels: UInt8[Tensor, "H W"], trusted: UInt8[Tensor, "H W"]) -> float:
    """Measure which share of the pixels that either mask calls foreground has the right class.

    It is the IoU of all classes together; 1 where there is no foreground.
    """
    foreground = ((labels > 0) | (trusted > 0)) & (trusted != IGNORE)
    right = (labels == trusted) & foreground
    return right.sum().item() / foreground.sum().item() if foreground.any() else 1.0
