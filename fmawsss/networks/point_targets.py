"""The valid pixels of a batch as points to sample: no size depends on how many there are.

A point is the number of a pixel, counted through all images of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from fmawsss.metrics import IGNORE
from fmawsss.networks.targets import PixelTargets


@dataclass(frozen=True)
class PointTargets:
    """Which pixels of a batch are valid, and the classes that they have."""

    targets: PixelTargets
    pixels: Int64[Tensor, "_"]  # the valid ones in front, image behind image
    counts: Int64[Tensor, "B"]  # valid pixels of each image
    present: Bool[Tensor, "B R"]  # the classes of each image

    @classmethod
    def collect(cls, targets: PixelTargets, classes: int) -> PointTargets:
        """Collect the targets of a batch; pixels of weight 0 are as good as ignored.

        Raises ValueError for targets that compare neighbours: points have none.
        """
        if targets.inner is not None:
            raise ValueError(
                "this network learns at sampled points, targets=edges compares "
                "neighbours: choose other targets, e.g. targets=soft"
            )
        valid = targets.labels != IGNORE
        if targets.weight is not None:
            valid = valid & (targets.weight > 0)
        flat = valid.flatten(1)
        labels = targets.labels.flatten(1).where(flat, classes)
        present = flat.new_zeros(len(flat), classes + 1).scatter(1, labels, True)[:, :classes]

        # every valid pixel goes behind those before it, the others to the end
        valid = flat.flatten()
        numbers = torch.arange(len(valid), device=valid.device)
        places = (valid.cumsum(0) - 1).where(valid, len(valid))
        pixels = numbers.new_zeros(len(valid) + 1).scatter(0, places, numbers)
        return cls(targets, pixels, flat.sum(1), present)

    def draw(self, images: Int64[Tensor, "masks"], points: int) -> Int64[Tensor, "masks points"]:
        """Draw valid pixels of an image for each mask, with replacement."""
        counts = self.counts[images][:, None]
        shares = torch.rand(len(images), points, device=counts.device)
        numbers = (shares * counts).long().minimum(counts - 1)
        before = (self.counts.cumsum(0) - self.counts)[images][:, None]
        return self.pixels[before + numbers]  # of an image without any, nothing is used

    def look(
        self, masks: Float[Tensor, "_n queries h w"], points: Int64[Tensor, "_n points"]
    ) -> Float[Tensor, "_n queries points"]:
        """Read masks of any resolution at the centres of pixels, as if resized bilinearly."""
        # Places between -1 and 1
        height, width = self.targets.labels.shape[-2:]
        x, y = (points % width + 0.5) / width, (points // width % height + 0.5) / height
        grid = torch.stack([x, y], dim=-1)[:, :, None] * 2 - 1

        # Beyond the outer centres the nearest value holds, as in a bilinear resize
        read = F.grid_sample(
            masks, grid.to(masks.dtype), padding_mode="border", align_corners=False
        )
        return read[..., 0]

    def read(
        self,
        images: Int64[Tensor, "_n"],
        points: Int64[Tensor, "_n points"],
        classes: Int64[Tensor, "_n k"],
    ) -> tuple[Float[Tensor, "_n k points"], Float[Tensor, "_n points"]]:
        """Return the masks of k classes at points of an image, and the weights of the points."""
        # The masks, less sure where labels are
        labels = self._take(self.targets.labels, points)
        truth = torch.eq(labels[:, None], classes[:, :, None]).float()
        if self.targets.certainty is not None:
            certainty = self._take(self.targets.certainty, points)[:, None]
            others = (self.present.sum(1) - 1).clamp_min(1)[images][:, None, None]
            truth = truth * certainty + (1 - truth) * (1 - certainty) / others

        # The weights
        if self.targets.weight is None:
            return truth, torch.ones_like(labels, dtype=truth.dtype)
        return truth, self._take(self.targets.weight, points)

    def _take(
        self, values: Shaped[Tensor, "B H W"], points: Int64[Tensor, "_n points"]
    ) -> Shaped[Tensor, "_n points"]:
        """Read values of the batch at points."""
        return values.flatten()[points]
