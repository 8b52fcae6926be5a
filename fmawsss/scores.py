"""Scores: CAMs between 0 and 1, and a background score to stand against them (METHOD 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from fmawsss.precision import widen

RANGE_EPSILON = (
    1e-7  # published, and absolute: a map whose range is near 1e-7 never reaches score 1
)

Score: TypeAlias = Callable[[Tensor, tuple[int, int]], Tensor]
Background: TypeAlias = Callable[[Tensor], Tensor]


def keep_cams(cams: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
    """Return the CAMs as they are, negative values included."""
    return cams


def clip_cams(cams: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
    """Clip the CAMs at 0."""
    return cams.clamp_min(0)


def normalise_range(maps: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
    """Stretch each class's values to 0…1 by its own minimum and maximum."""
    maps = widen(maps)
    places = tuple(range(1, maps.ndim))
    low = maps.amin(places, keepdim=True)
    return (maps - low) / (maps.amax(places, keepdim=True) - low + RANGE_EPSILON)


def score_cams(cams: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
    """Clip at 0 and stretch to 0…1, class by class, over a grid, an image, or superpixels."""
    return normalise_range(clip_cams(cams))


@dataclass(frozen=True)
class SoftmaxOverClasses:
    """Score CAMs by `softmax(gamma * CAM)` over the classes; no normalisation may follow."""

    gamma: float

    def __call__(self, cams: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
        """Return values in 0…1 that sum to 1 over the classes."""
        return (self.gamma * widen(cams)).softmax(0)


def resize_maps(maps: Float[Tensor, "P h w"], size: tuple[int, int]) -> Float[Tensor, "P H W"]:
    """Resize maps bilinearly to `size` (height, width), corners not aligned."""
    if len(maps) == 0:
        return maps.new_zeros(0, *size)
    return interpolate(widen(maps)[None], size=size, mode="bilinear", align_corners=False)[0]


def resize_then_score(
    cams: Float[Tensor, "P h w"], size: tuple[int, int]
) -> Float[Tensor, "P H W"]:
    """Score CAMs at the size of the image (the default order)."""
    return score_cams(resize_maps(cams, size))


def score_then_resize(
    cams: Float[Tensor, "P h w"], size: tuple[int, int]
) -> Float[Tensor, "P H W"]:
    """Score CAMs on their own grid; after resizing a maximum may fall short of 1."""
    return resize_maps(score_cams(cams), size)


@dataclass(frozen=True)
class BackgroundPower:
    """Put `(1 - max over classes) ** power` in front of scores, which lie in 0…1."""

    power: float

    def __call__(self, scores: Float[Tensor, "P *shape"]) -> Float[Tensor, "Q *shape"]:
        """Return background and scores."""
        return torch.cat([(1 - scores.amax(0, keepdim=True)) ** self.power, scores])


@dataclass(frozen=True)
class BackgroundThreshold:
    """Put a constant in front of the scores: a class must score above it."""

    value: float

    def __call__(self, scores: Float[Tensor, "P *shape"]) -> Float[Tensor, "Q *shape"]:
        """Return background and scores."""
        return torch.cat([torch.full_like(scores[:1], self.value), scores])


@dataclass(frozen=True)
class BackgroundAlpha:
    """Raise the background that scores already have, their first channel (class -1), to a power."""

    power: float

    def __call__(self, scores: Float[Tensor, "P *shape"]) -> Float[Tensor, "P *shape"]:
        """Return background and scores."""
        return torch.cat([scores[:1] ** self.power, scores[1:]])
