"""Mask2Former's loss (Cheng et al., CVPR 2022), with one look at the device for each step.

What the matching needs of all decoder outputs and images comes to the CPU in one piece; what it
decides goes back in one piece. From there on all matched masks are compared at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmawsss.losses import Share, keep_count
from fmawsss.networks.mask2former import MaskQueries
from fmawsss.networks.point_targets import PointTargets
from fmawsss.networks.targets import PixelTargets
from fmawsss.transfer import fetch


@dataclass(frozen=True)
class Matches:
    """The queries that are matched with a class, of all outputs; each list one entry a match."""

    outputs: Int64[Tensor, "matched"]
    images: Int64[Tensor, "matched"]
    queries: Int64[Tensor, "matched"]
    classes: Int64[Tensor, "matched"]

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True)
class MaskSetLoss:
    """For every decoder output, queries are matched with an image's classes and learn their masks.

    Masks are compared at sampled pixels, which are never ignored ones: the library's loss takes
    those for negatives. Points are pixel centres, so that no target mixes with an ignored
    neighbour.

    points: sampled pixels of each mask; `importance` is the share of those where the prediction is
        least sure, chosen among `oversample` times as many.
    """

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    points: int
    oversample: int
    importance: float

    def __call__(
        self, queries: MaskQueries, targets: PixelTargets, share: Share = keep_count
    ) -> Tensor:
        """Sum the losses of all decoder outputs, in float32."""
        with torch.autocast(targets.labels.device.type, enabled=False):
            classes = torch.stack(queries.classes).float()
            masks = [level.float() for level in queries.masks]
            known = PointTargets.collect(targets, classes.shape[-1] - 1)
            matches, masks_of_batch = self.match(classes, masks, known)

            # The number of masks, over all processes; without any, the masks keep their graph
            count = share(classes.new_tensor(float(masks_of_batch))).clamp(min=1)
            class_loss = self._compare_classes(classes, known, matches, share)
            if not len(matches):
                return class_loss + sum(level.sum() for level in masks) * 0
            return class_loss + self._compare_masks(masks, known, matches) / count

    @torch.no_grad()
    def match(
        self,
        classes: Float[Tensor, "outputs B queries answers"],
        masks: Sequence[Float[Tensor, "B queries h w"]],
        known: PointTargets,
    ) -> tuple[Matches, int]:
        """Match queries and present classes one to one at the least cost, on the CPU.

        Returns the matches and the number of masks, those of all classes that an image shows.
        """
        # The cost of every query for every class, and which classes an image shows
        costs = torch.stack([self.compute_costs(level, known) for level in masks])
        costs = costs - self.class_weight * classes.softmax(-1)[..., :-1]
        costs = torch.nan_to_num(costs, nan=1e9, posinf=1e9, neginf=1e9)
        matrices, present = (found.numpy() for found in fetch([costs, known.present]))

        # The cheapest assignments
        found: list[np.ndarray] = [np.zeros((0, 4), dtype=np.int64)]
        for output, batch in enumerate(matrices):
            for image, cost in enumerate(batch):
                shown = present[image].nonzero()[0]
                rows, columns = linear_sum_assignment(cost[:, shown])
                places = np.broadcast_to([output, image], (len(rows), 2))
                found.append(np.column_stack([places, rows, shown[columns]]))
        table = torch.from_numpy(np.concatenate(found).T.copy())
        return Matches(*table.to(classes.device, non_blocking=True)), int(present.sum())

    def compute_costs(
        self, masks: Float[Tensor, "B queries h w"], known: PointTargets
    ) -> Float[Tensor, "B queries R"]:
        """Compare every mask of an image with every class, all at the same points."""
        # Logits and truths there
        images = torch.arange(len(masks), device=masks.device)
        points = known.draw(images, self.points)
        logits = known.look(masks, points)
        every = torch.arange(known.present.shape[1], device=masks.device)
        truth, weight = known.read(images, points, every.expand(len(masks), -1))
        weight = (weight / weight.sum(1, keepdim=True).clamp(min=1e-6))[:, None]

        # Cross-entropy: what a point costs as background, less what it gains inside the mask
        outside = (F.softplus(logits) * weight).sum(2, keepdim=True)
        cross_entropy = outside - (logits * weight) @ truth.mT

        # Dice
        probabilities = logits.sigmoid() * weight
        either = probabilities.sum(2)[:, :, None] + (truth * weight).sum(2)[:, None]
        shared = probabilities @ truth.mT
        dice = 1 - (2 * self.points * shared + 1) / (self.points * either + 1)
        return self.mask_weight * cross_entropy + self.dice_weight * dice

    def _compare_classes(
        self,
        classes: Float[Tensor, "outputs B queries answers"],
        known: PointTargets,
        matches: Matches,
        share: Share,
    ) -> Tensor:
        """Compare what queries answer; those without a match should answer "no object"."""
        nothing = classes.shape[-1] - 1
        wanted = torch.full(classes.shape[:3], nothing, device=classes.device)
        wanted[matches.outputs, matches.images, matches.queries] = matches.classes

        # An image without a valid pixel says nothing about its classes either
        weight = torch.where(wanted == nothing, self.no_object_weight, 1.0)
        weight = weight * (known.counts > 0).float()[:, None]
        losses = F.cross_entropy(classes.flatten(0, 2), wanted.flatten(), reduction="none")

        # All outputs have as many matches, so one sum of weights is that of each
        total = share(weight[0].sum()).clamp(min=1e-6)
        return self.class_weight * (weight.flatten() * losses).sum() / total

    def _compare_masks(
        self, masks: Sequence[Float[Tensor, "B queries h w"]], known: PointTargets, matches: Matches
    ) -> Tensor:
        """Compare matched masks with those of their classes, each at points of its own."""
        # Logits and truths there
        each = len(matches) // len(masks)
        places = zip(masks, matches.images.split(each), matches.queries.split(each), strict=True)
        matched = torch.cat([level[images, queries] for level, images, queries in places])
        points = self.choose_points(matched.detach(), matches.images, known)
        logits = known.look(matched[:, None], points)[:, 0]
        truth, weight = known.read(matches.images, points, matches.classes[:, None])
        truth, total = truth[:, 0], weight.sum(1).clamp(min=1e-6)

        # Cross-entropy
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        cross_entropy = (weight * losses).sum(1) / total

        # Dice; the published 1 in numerator and denominator is of the size of one point
        probabilities = logits.sigmoid()
        scale = self.points / total
        shared = (weight * probabilities * truth).sum(1) * scale
        either = (weight * (probabilities + truth)).sum(1) * scale
        dice = 1 - (2 * shared + 1) / (either + 1)
        return self.mask_weight * cross_entropy.sum() + self.dice_weight * dice.sum()

    @torch.no_grad()
    def choose_points(
        self,
        masks: Float[Tensor, "matched h w"],
        images: Int64[Tensor, "matched"],
        known: PointTargets,
    ) -> Int64[Tensor, "matched points"]:
        """Draw points, most of them the least sure ones of a larger draw, the others anywhere."""
        drawn = known.draw(images, self.points * self.oversample)
        unsure = int(self.importance * self.points)
        logits = known.look(masks[:, None], drawn)[:, 0]
        chosen = logits.abs().topk(unsure, dim=1, largest=False).indices
        others = known.draw(images, self.points - unsure)
        return torch.cat([drawn.gather(1, chosen), others], dim=1)
