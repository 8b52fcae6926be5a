"""Losses of segmentation networks. Ignored pixels take no part, and several processes descend as
one.

`share` replaces a count of this process by the mean over all of them; `keep_count` is that of a
single process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmawsss.losses import Share, keep_count
from fmawsss.networks.mask2former import MaskQueries
from fmawsss.networks.targets import IGNORE, PixelTargets


class PixelLoss:
    """Cross-entropy of each pixel, averaged over the pixels of all processes (by their weight,
    where they have one).
    """

    def __call__(
        self, logits: Float[Tensor, "B R h w"], targets: PixelTargets, share: Share = keep_count
    ) -> Tensor:
        """Compare logits of any resolution with targets; without a valid pixel the loss is 0 and
        keeps its graph.
        """
        logits = F.interpolate(
            logits.float(), size=targets.labels.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = F.cross_entropy(logits, targets.labels, ignore_index=IGNORE, reduction="none")
        if targets.certainty is not None:
            loss = _soften(loss, logits, targets.certainty)
        weight = (targets.labels != IGNORE).float()
        weight = weight if targets.weight is None else weight * targets.weight
        return (weight * loss).sum() / share(weight.sum()).clamp(min=1e-6)


def _soften(
    loss: Float[Tensor, "B H W"],
    logits: Float[Tensor, "B R H W"],
    certainty: Float[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """Share what is missing to certainty among the other classes."""
    everything = -logits.log_softmax(1).sum(1)
    return certainty * loss + (1 - certainty) * (everything - loss) / (logits.shape[1] - 1)


@dataclass(frozen=True)
class MaskSetLoss:
    """Mask2Former's loss: queries are matched with the classes of each image, for every decoder
    output anew.

    Masks are compared at sampled pixels, which are never ignored ones: the library's loss takes
    those for negatives. Points are pixel centres, so that no target mixes with an ignored
    neighbour.
    """

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    points: int
    oversample: int
    importance: float  # share of the points where the prediction is least sure

    def __call__(
        self, queries: MaskQueries, targets: PixelTargets, share: Share = keep_count
    ) -> Tensor:
        """Sum the losses of all decoder outputs, in float32."""
        images = [ImageTargets.collect(targets, index) for index in range(len(targets.labels))]
        masks = share(
            queries.classes[0].new_tensor(float(sum(len(image.classes) for image in images)))
        ).clamp(min=1)
        with torch.autocast(targets.labels.device.type, enabled=False):
            outputs = [
                self._compare(classes.float(), masks_of_output.float(), images, masks, share)
                for classes, masks_of_output in zip(queries.classes, queries.masks, strict=True)
            ]
        return torch.stack(outputs).sum()

    def _compare(
        self,
        classes: Float[Tensor, "B queries answers"],
        masks: Float[Tensor, "B queries h w"],
        images: list[ImageTargets],
        count: Float[Tensor, ""],
        share: Share,
    ) -> Tensor:
        """Compare one decoder output with the targets of its images; `count` is the mean number of
        masks.
        """
        nothing = classes.shape[-1] - 1
        wanted = torch.full(classes.shape[:2], nothing, device=classes.device)
        mask_loss = masks.sum() * 0  # keeps the graph where no mask is there to compare
        for index, image in enumerate(images):
            queries, order = self.match(classes[index], masks[index], image)
            wanted[index, queries] = image.classes[order]
            if len(queries):
                mask_loss = mask_loss + self._compare_masks(masks[index, queries], image, order)

        # An image without a valid pixel says nothing about its classes either
        known = torch.tensor(
            [[float(len(image.pixels) > 0)] for image in images], device=classes.device
        )
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
        """Match queries and classes one to one at the least cost: indices of queries, and of the
        image's classes.
        """
        if len(image.classes) == 0:
            return image.classes, image.classes
        cost = (
            self.compute_costs(masks, image)
            - self.class_weight * classes.softmax(-1)[:, image.classes]
        )
        rows, columns = linear_sum_assignment(
            torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=1e9).cpu().numpy()
        )
        return torch.as_tensor(rows, device=masks.device), torch.as_tensor(
            columns, device=masks.device
        )

    def compute_costs(
        self, masks: Float[Tensor, "queries h w"], image: ImageTargets
    ) -> Float[Tensor, "queries present"]:
        """Compare every mask with every class of the image, all at the same points."""
        points = image.draw(1, self.points)[0]
        logits = image.look(masks, points.expand(len(masks), -1))
        truth, weight = image.read(points, image.classes)
        weight = weight / weight.sum().clamp(min=1e-6)

        cross_entropy = (F.softplus(-logits) * weight) @ truth.T + (F.softplus(logits) * weight) @ (
            1 - truth
        ).T
        scores = logits.sigmoid() * weight
        either = scores.sum(1)[:, None] + (truth * weight).sum(1)
        dice = 1 - (2 * self.points * scores @ truth.T + 1) / (self.points * either + 1)
        return self.mask_weight * cross_entropy + self.dice_weight * dice

    def _compare_masks(
        self,
        masks: Float[Tensor, "matched h w"],
        image: ImageTargets,
        order: Int64[Tensor, "matched"],
    ) -> Tensor:
        """Compare matched masks with those of their classes, each at points of its own."""
        points = self.choose_points(masks.detach(), image)
        logits = image.look(masks, points)
        truth, weight = image.read(points, image.classes[order])
        total = weight.sum(1).clamp(min=1e-6)
        cross_entropy = (
            weight * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        ).sum(1) / total

        # The published 1 in numerator and denominator is of the size of one point
        scores, scale = logits.sigmoid(), self.points / total
        shared, either = (
            (weight * scores * truth).sum(1) * scale,
            (weight * (scores + truth)).sum(1) * scale,
        )
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
        return torch.cat(
            [drawn.gather(1, chosen), image.draw(len(masks), self.points - unsure)], dim=1
        )


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
        """Read masks of any resolution at the centres of pixels, bilinearly, as if resized to the
        image.
        """
        height, width = self.targets.labels.shape[-2:]
        x, y = (points % width + 0.5) / width, (points // width + 0.5) / height
        grid = torch.stack([x, y], dim=-1)[:, :, None] * 2 - 1
        # beyond the outer centres the nearest value holds, as in a bilinear resize
        read = F.grid_sample(
            masks[:, None], grid.to(masks.dtype), padding_mode="border", align_corners=False
        )
        return read[:, 0, :, 0]

    def read(
        self, points: Int64[Tensor, "*shape"], classes: Int64[Tensor, "matched"]
    ) -> tuple[Float[Tensor, "matched points"], Float[Tensor, "*shape"]]:
        """Return masks of classes at points, common to all or a row for each, and the weights of
        the points.
        """
        labels = self.targets.labels[self.index].flatten()[points]
        weight, certainty = (
            values if values is None else values[self.index].flatten()[points]
            for values in (self.targets.weight, self.targets.certainty)
        )
        truth = torch.eq(labels, classes[:, None]).float()
        if certainty is not None:
            others = max(len(self.classes) - 1, 1)
            truth = truth * certainty + (1 - truth) * (1 - certainty) / others
        return truth, torch.ones_like(labels, dtype=truth.dtype) if weight is None else weight
