"""Losses of segmentation networks; ignored pixels take no part, several processes learn as one.

`share` replaces a count of this process by the mean over all processes; `keep_count` is that of a
single one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmawsss.losses import Share, keep_count
from fmawsss.metrics import IGNORE
from fmawsss.networks.mask2former import MaskQueries
from fmawsss.networks.targets import PixelTargets


class PixelLoss:
    """Cross-entropy of each pixel, averaged by weight over the pixels of all processes."""

    def __call__(
        self, logits: Float[Tensor, "B R h w"], targets: PixelTargets, share: Share = keep_count
    ) -> Tensor:
        """Compare logits of any resolution with targets.

        Without a valid pixel the loss is 0 and keeps its graph.
        """
        # The loss of each pixel
        logits = F.interpolate(
            logits.float(), size=targets.labels.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = F.cross_entropy(logits, targets.labels, ignore_index=IGNORE, reduction="none")
        if targets.certainty is not None:
            loss = _soften(loss, logits, targets.certainty)

        # Averaged by weight
        weight = (targets.labels != IGNORE).float()
        weight = weight if targets.weight is None else weight * targets.weight
        return (weight * loss).sum() / share(weight.sum()).clamp(min=1e-6)


def _soften(
    loss: Float[Tensor, "B H W"],
    logits: Float[Tensor, "B R H W"],
    certainty: Float[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """Share what is missing to certainty among the other classes."""
    others = -logits.log_softmax(1).sum(1) - loss
    return certainty * loss + (1 - certainty) * others / (logits.shape[1] - 1)


@dataclass(frozen=True)
class MaskSetLoss:
    """Mask2Former's loss: for every decoder output, queries are matched with an image's classes.

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
        # The number of masks, over all processes
        images = [ImageTargets.collect(targets, index) for index in range(len(targets.labels))]
        present = sum(len(image.classes) for image in images)
        count = share(queries.classes[0].new_tensor(float(present))).clamp(min=1)

        # One output after the other
        outputs = zip(queries.classes, queries.masks, strict=True)
        with torch.autocast(targets.labels.device.type, enabled=False):
            losses = [
                self._compare(classes.float(), masks.float(), images, count, share)
                for classes, masks in outputs
            ]
        return torch.stack(losses).sum()

    def _compare(
        self,
        classes: Float[Tensor, "B queries answers"],
        masks: Float[Tensor, "B queries h w"],
        images: list[ImageTargets],
        count: Float[Tensor, ""],
        share: Share,
    ) -> Tensor:
        """Compare one decoder output with the targets of its images.

        count: number of masks, the mean over all processes.
        """
        # The masks of matched queries; the others should answer "no object"
        nothing = classes.shape[-1] - 1
        wanted = torch.full(classes.shape[:2], nothing, device=classes.device)
        mask_loss = masks.sum() * 0  # keeps the graph where no mask is there to compare
        for index, image in enumerate(images):
            queries, order = self.match(classes[index], masks[index], image)
            wanted[index, queries] = image.classes[order]
            if len(queries):
                mask_loss = mask_loss + self._compare_masks(masks[index, queries], image, order)

        # An image without a valid pixel says nothing about its classes either
        valid = [[float(len(image.pixels) > 0)] for image in images]
        known = torch.tensor(valid, device=classes.device)
        weight = known * torch.where(wanted == nothing, self.no_object_weight, 1.0)
        class_loss = F.cross_entropy(classes.flatten(0, 1), wanted.flatten(), reduction="none")
        class_loss = (weight.flatten() * class_loss).sum() / share(weight.sum()).clamp(min=1e-6)
        return self.class_weight * class_loss + mask_loss / count

    @torch.no_grad()
    def match(
        self,
        classes: Float[Tensor, "queries answers"],
        masks: Float[Tensor, "queries h w"],
        image: ImageTargets,
    ) -> tuple[Int64[Tensor, "matched"], Int64[Tensor, "matched"]]:
        """Match queries and classes one to one at the least cost.

        Returns indices of queries, and of the image's classes.
        """
        if len(image.classes) == 0:
            return image.classes, image.classes

        # The cost of every query for every class
        probabilities = classes.softmax(-1)[:, image.classes]
        cost = self.compute_costs(masks, image) - self.class_weight * probabilities
        cost = torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=1e9)

        # The cheapest assignment
        rows, columns = (
            torch.as_tensor(matched, device=masks.device)
            for matched in linear_sum_assignment(cost.cpu().numpy())
        )
        return rows, columns

    def compute_costs(
        self, masks: Float[Tensor, "queries h w"], image: ImageTargets
    ) -> Float[Tensor, "queries present"]:
        """Compare every mask with every class of the image, all at the same points."""
        # Logits and truths there
        points = image.draw(1, self.points)[0]
        logits = image.look(masks, points.expand(len(masks), -1))
        truth, weight = image.read(points, image.classes)
        weight = weight / weight.sum().clamp(min=1e-6)

        # Cross-entropy
        inside, outside = F.softplus(-logits) * weight, F.softplus(logits) * weight
        cross_entropy = inside @ truth.T + outside @ (1 - truth).T

        # Dice
        probabilities = logits.sigmoid() * weight
        either = probabilities.sum(1)[:, None] + (truth * weight).sum(1)
        dice = 1 - (2 * self.points * probabilities @ truth.T + 1) / (self.points * either + 1)
        return self.mask_weight * cross_entropy + self.dice_weight * dice

    def _compare_masks(
        self,
        masks: Float[Tensor, "matched h w"],
        image: ImageTargets,
        order: Int64[Tensor, "matched"],
    ) -> Tensor:
        """Compare matched masks with those of their classes, each at points of its own."""
        # Logits and truths there
        points = self.choose_points(masks.detach(), image)
        logits = image.look(masks, points)
        truth, weight = image.read(points, image.classes[order])
        total = weight.sum(1).clamp(min=1e-6)

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
        self, masks: Float[Tensor, "matched h w"], image: ImageTargets
    ) -> Int64[Tensor, "matched points"]:
        """Draw points, most of them the least sure ones of a larger draw, the others anywhere."""
        drawn = image.draw(len(masks), self.points * self.oversample)
        unsure = int(self.importance * self.points)
        chosen = image.look(masks, drawn).abs().topk(unsure, dim=1, largest=False).indices
        others = image.draw(len(masks), self.points - unsure)
        return torch.cat([drawn.gather(1, chosen), others], dim=1)


@dataclass(frozen=True)
class ImageTargets:
    """The valid pixels of one image, and the classes that they have."""

    targets: PixelTargets
    index: int
    pixels: Int64[Tensor, "valid"]  # positions in the flattened image
    classes: Int64[Tensor, "present"]

    @classmethod
    def collect(cls, targets: PixelTargets, index: int) -> ImageTargets:
        """Collect the targets of an image of a batch; pixels of weight 0 are as good as ignored."""
        labels = targets.labels[index].flatten()
        valid = labels != IGNORE
        if targets.weight is not None:
            valid &= targets.weight[index].flatten() > 0
        return cls(targets, index, valid.nonzero().flatten(), labels[valid].unique())

    def draw(self, masks: int, points: int) -> Int64[Tensor, "matched points"]:
        """Draw valid pixels for each mask, with replacement."""
        return self.pixels[
            torch.randint(len(self.pixels), (masks, points), device=self.pixels.device)
        ]

    def look(
        self, masks: Float[Tensor, "matched h w"], points: Int64[Tensor, "matched points"]
    ) -> Float[Tensor, "matched points"]:
        """Read masks of any resolution at the centres of pixels, as if resized bilinearly."""
        # Places between -1 and 1
        height, width = self.targets.labels.shape[-2:]
        x, y = (points % width + 0.5) / width, (points // width + 0.5) / height
        grid = torch.stack([x, y], dim=-1)[:, :, None] * 2 - 1

        # Beyond the outer centres the nearest value holds, as in a bilinear resize
        read = F.grid_sample(
            masks[:, None], grid.to(masks.dtype), padding_mode="border", align_corners=False
        )
        return read[:, 0, :, 0]

    def read(
        self, points: Int64[Tensor, "*shape"], classes: Int64[Tensor, "matched"]
    ) -> tuple[Float[Tensor, "matched points"], Float[Tensor, "*shape"]]:
        """Return the masks of classes at points, and the weights of the points.

        points: common to all classes, or a row for each.
        """
        # The masks, less sure where labels are
        labels = self._take(self.targets.labels, points)
        truth = torch.eq(labels, classes[:, None]).float()
        if self.targets.certainty is not None:
            certainty = self._take(self.targets.certainty, points)
            others = max(len(self.classes) - 1, 1)
            truth = truth * certainty + (1 - truth) * (1 - certainty) / others

        # The weights
        if self.targets.weight is None:
            return truth, torch.ones_like(labels, dtype=truth.dtype)
        return truth, self._take(self.targets.weight, points)

    def _take(
        self, values: Shaped[Tensor, "B H W"], points: Int64[Tensor, "*shape"]
    ) -> Shaped[Tensor, "*shape"]:
        """Read values of the image at points."""
        return values[self.index].flatten()[points]
