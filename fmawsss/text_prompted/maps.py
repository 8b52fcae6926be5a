"""From what a model found for phrases to a map per class (METHOD 11.4).

A model is asked only for classes that the image shows: the labels make their presence certain, so
scores are those of objects given that the class is there. Of each class

    map_c = max(max_k sigmoid(mask_k) · score_k, sigmoid(semantic_c))

over the objects k whose score exceeds a threshold, and over all phrases of the class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fmawsss.precision import widen


@dataclass(frozen=True, eq=False)
class Found:
    """What a model found in an image for one phrase: K objects, and perhaps the phrase as a whole.

    masks: logits of the mask of each object, laid over the whole image; all that is found in an
        image has one resolution.
    scores: how sure the model is of each object, 0…1.
    boxes: left, top, right and bottom of each, in 0…1 of the image's width and height.
    semantic: logits of all that the phrase names; None of a model that finds objects only.
    """

    masks: Float[Tensor, "K h w"]
    scores: Float[Tensor, "K"]
    boxes: Float[Tensor, "K 4"]
    semantic: Float[Tensor, "h w"] | None


@runtime_checkable
class TextSource(Protocol):
    """A model that finds what phrases name."""

    def check_phrase(self, phrase: str) -> None:
        """Raise ValueError for a phrase that the model cannot be asked."""

    def find(self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str]) -> list[Found]:
        """Find, for each phrase, the objects of an image whose score exceeds the threshold."""


# How sure the objects of one class are, over all its phrases
Certainty: TypeAlias = Callable[[Sequence[Found]], list[Found]]


def keep_sure(found: Found, least: float) -> Found:
    """Keep the objects whose score exceeds `least`."""
    sure = found.scores > least
    return replace(
        found, masks=found.masks[sure], scores=found.scores[sure], boxes=found.boxes[sure]
    )


def keep_scores(found: Sequence[Found]) -> list[Found]:
    """Take the scores of a class as the model gives them, as SAM 3's are meant."""
    return list(found)


def divide_by_best(found: Sequence[Found]) -> list[Found]:
    """Divide the scores of a class by its best: the class is there, so its best object is certain.

    Ours, for detectors whose best boxes score far below 1; METHOD 11.4 does not have it.
    """
    best = max((float(each.scores.max()) for each in found if len(each.scores)), default=1.0)
    return [replace(each, scores=each.scores / best) for each in found]


def map_phrase(found: Found) -> Float[Tensor, "h w"]:
    """Map what was found for one phrase, 0…1."""
    objects = widen(found.masks).sigmoid() * widen(found.scores)[:, None, None]
    semantic = objects.new_zeros(1, *objects.shape[1:])
    if found.semantic is not None:
        semantic = widen(found.semantic)[None].sigmoid()
    return torch.cat([objects, semantic]).amax(dim=0)


def map_class(found: Sequence[Found]) -> Float[Tensor, "h w"]:
    """Map one class, 0…1, from what was found for each of its phrases."""
    return torch.stack([map_phrase(each) for each in found]).amax(dim=0)
