"""What the seeds of an image are made of, and how formulas of one image run for many at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fmawsss.superpixels import Superpixels

BLOCK = 1 << 24  # numbers of attention, or of maps, side by side: 64 MB in float32


@dataclass(frozen=True, eq=False)
class Scene:
    """What the seeds of one image are made of.

    `compare` gives the cosines between its patches and all prompts, (N, T); None where no CLIP saw
    the image.
    """

    cams: Float[Tensor, "P h w"]
    attention: Float[Tensor, "N N"] | None
    classes: Int[Tensor, "P"]
    superpixels: Superpixels | None
    size: tuple[int, int]  # height, width
    image: UInt8[Tensor, "H W 3"] | None
    compare: Callable[[], Tensor] | None = None


@runtime_checkable
class SceneAffinity(Protocol):
    """An affinity that asks for more than CAMs, CLIP's attention and the image (`Affinity`).

    `attention_blocks` of CLIP are averaged for it, 0 for none. One that is an `nn.Module` moves to
    the device, stays frozen, and counts in fingerprints with its weights.
    """

    attention_blocks: int

    def refine_scenes(self, scenes: Sequence[Scene]) -> list[Float[Tensor, "_P h w"]]:
        """Refine the CAMs of each image; images of one grid may share what is computed."""


def map_images(formula: Callable[..., Tensor], *parts: Sequence[Tensor]) -> Tensor:
    """Apply the formula of one image to B images at once."""
    if len(parts[0]) == 1:
        return formula(*(part[0] for part in parts))[None]
    return torch.vmap(formula)(*map(torch.stack, map(list, parts)))


def gather_equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Gather the numbers of equal keys.

    >>> gather_equal(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def cut_blocks(numbers: Sequence[int], each: int) -> list[Sequence[int]]:
    """Cut images that need `each` numbers into blocks of at most `BLOCK` numbers."""
    step = max(BLOCK // max(each, 1), 1)
    return [numbers[first : first + step] for first in range(0, len(numbers), step)]
