"""Class maps refined along the edges of the image: not at all, pixel-adaptively, or by a CRF.

Maps are probabilities of a network, or scores of CAMs: one channel per class, the background first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

# (maps, the image) -> maps of the same shape
Refine: TypeAlias = Callable[[Tensor, UInt8[Tensor, "H W 3"] | None], Tensor]
AROUND = [step for step in product((-1, 0, 1), repeat=2) if step != (0, 0)]


def keep_maps(
    maps: Float[Tensor, "R H W"], image: UInt8[Tensor, "H W 3"] | None
) -> Float[Tensor, "R H W"]:
    """Return the maps as they are."""
    return maps


@dataclass(frozen=True)
class PixelAdaptive:
    """Average each pixel with neighbours that look alike, several times (Araslanov & Roth 2020).

    Each pixel i has 8 neighbours n at each of several distances. They weigh
    `softmax_n(-mean_c |I_c(i) - I_c(n)| / (κ s_c(i)))`, where `s_c(i)` is the standard deviation of
    channel c among all of them and the pixel itself, so that neither contrast nor brightness
    matters. Beyond the image lies its nearest pixel.

    distances: of the neighbours, in pixels.
    sharpness: 1 / κ; the larger, the less is taken from pixels that differ.
    steps: how often maps are averaged.
    """

    distances: Sequence[int]
    sharpness: float
    steps: int

    def __call__(
        self, maps: Float[Tensor, "R H W"], image: UInt8[Tensor, "H W 3"] | None
    ) -> Float[Tensor, "R H W"]:
        """Refine the maps of one image."""
        colours = require_image(image).to(maps.device).permute(2, 0, 1).to(maps.dtype)
        weights = self.weigh_neighbours(colours)
        for _ in range(self.steps):
            pairs = zip(weights, self._shift(maps), strict=True)
            mixed = (weight * neighbour for weight, neighbour in pairs)
            maps = sum(mixed, torch.zeros_like(maps))
        return maps

    def weigh_neighbours(self, image: Float[Tensor, "3 H W"]) -> Float[Tensor, "K H W"]:
        """Weigh the K neighbours of each pixel; the weights sum to one."""
        # The spread of each channel around a pixel
        others = self._shift(image)
        mean = sum(others, image) / (len(others) + 1)
        squares = sum(((other - mean).square() for other in others), (image - mean).square())
        spread = (squares / len(others)).sqrt() + 1e-8

        # Neighbours that differ little, as measured by it, weigh much
        unlike = [((image - other).abs() / spread).mean(dim=0) for other in others]
        return (-self.sharpness * torch.stack(unlike)).softmax(dim=0)

    def _shift(self, values: Float[Tensor, "R H W"]) -> list[Float[Tensor, "R H W"]]:
        """Return what lies at each neighbour's place, as views of one padded copy."""
        edge, (height, width) = max(self.distances), values.shape[-2:]
        padded = F.pad(values[None], (edge,) * 4, mode="replicate")[0]
        steps = [
            (edge + d * down, edge + d * right) for d in self.distances for down, right in AROUND
        ]
        return [padded[:, top : top + height, left : left + width] for top, left in steps]


class DenseCrf:
    """Refine by a fully connected CRF (Krähenbühl & Koltun 2011) of the package `pydensecrf`.

    steps: of mean-field inference.
    smooth_deviation, smooth_weight: of the kernel of places, in pixels.
    alike_deviation, colour_deviation, alike_weight: of the kernel of places and colours, in pixels
        and 8-bit values.

    Raises:
        ModuleNotFoundError: without the package.
    """

    def __init__(
        self,
        steps: int,
        smooth_deviation: float,
        smooth_weight: float,
        alike_deviation: float,
        colour_deviation: float,
        alike_weight: float,
    ) -> None:
        self.package = import_package("pydensecrf.densecrf")
        self.steps = steps
        self.smooth = {"sxy": smooth_deviation, "compat": smooth_weight}
        self.alike = {"sxy": alike_deviation, "srgb": colour_deviation, "compat": alike_weight}

    def __call__(
        self, maps: Float[Tensor, "R H W"], image: UInt8[Tensor, "H W 3"] | None
    ) -> Float[Tensor, "R H W"]:
        """Refine the maps of one image; they become probabilities."""
        # What each pixel says alone, and how pixels pull each other
        classes, height, width = maps.shape
        cost = -maps.clamp_min(1e-5).log().flatten(1).float().cpu().numpy()
        colours = np.ascontiguousarray(require_image(image).cpu().numpy())
        crf = self.package.DenseCRF2D(width, height, classes)
        crf.setUnaryEnergy(np.ascontiguousarray(cost))
        crf.addPairwiseGaussian(**self.smooth)
        crf.addPairwiseBilateral(rgbim=colours, **self.alike)

        # Mean-field inference
        refined = torch.from_numpy(np.array(crf.inference(self.steps), np.float32))
        return refined.view(classes, height, width).to(maps)


def require_image(image: UInt8[Tensor, "H W 3"] | None) -> UInt8[Tensor, "H W 3"]:
    """Return the image; raises ValueError when there is none."""
    if image is None:
        raise ValueError(
            "a refinement needs the image, found none: keep the originals in the batch "
            "(data.originals)"
        )
    return image


def import_package(name: str) -> Any:
    """Import the dense CRF, or say how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"the dense CRF needs a package that is not installed ({error}): "
            "pip install pydensecrf2, or choose refine=pixel_adaptive, which needs none"
        ) from error
