"""Which images to correct next: those of unsure seeds that look unlike each other.

Greedy: each choice is the image of the largest product of its uncertainty and the root of its
distance to what is corrected or chosen. Linear in the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """An image by its number, and its distance (0…2) to what was corrected or chosen before."""

    image: int
    distance: float


def describe_image(keys: Float[Tensor, "M D"], scores: Float[Tensor, "Q M"]) -> Float[Tensor, "D"]:
    """Describe an image by the mean of its keys, each weighted by how unsure its superpixel is.

    An image without superpixels is described by zeros.
    """
    shares = scores / scores.sum(dim=0, keepdim=True).clamp_min(1e-6)
    unsure = 1 - shares.amax(dim=0) + 1e-3
    return F.normalize((unsure[:, None] * keys).sum(dim=0), dim=0)


def choose_diverse(
    descriptions: Float[Tensor, "I D"],
    uncertainty: Float64[Tensor, "I"],
    corrected: Sequence[int],
    count: int,
) -> list[Choice]:
    """Choose images one after the other; fewer than `count` where no more are left.

    corrected: the numbers of images that are not to be chosen, and count as seen.
    """
    # what all images share says nothing
    directions = F.normalize(descriptions - descriptions.mean(dim=0), dim=1)
    nearest = torch.full((len(directions),), -1.0)
    free = torch.ones(len(directions), dtype=torch.bool)
    for number in corrected:
        nearest = torch.maximum(nearest, directions @ directions[number])
        free[number] = False

    # the most uncertain of what looks otherwise
    chosen = []
    for _ in range(min(count, int(free.sum()))):
        distance = (1 - nearest).clamp_min(0)
        worth = (uncertainty * distance.sqrt()).masked_fill(~free, -1)
        number = int(worth.argmax())
        chosen.append(Choice(number, distance[number].item()))
        nearest = torch.maximum(nearest, directions @ directions[number])
        free[number] = False
    return chosen
