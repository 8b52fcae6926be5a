"""Seeds (METHOD 6 and 7): a class per pixel, from CAMs alone or pooled on superpixels (SAMS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor, nn

from fmawsss.affinity import Affinity
from fmawsss.metrics import IGNORE
from fmawsss.networks.refinement import Refine, require_image
from fmawsss.pooling import pool_mean as pool_mean
from fmawsss.pooling import pool_sum as pool_sum
from fmawsss.precision import widen
from fmawsss.scenes import Scene, SceneAffinity
from fmawsss.scores import Background, BackgroundPower, Score, resize_maps
from fmawsss.superpixels import Superpixels, require_superpixels

Pool: TypeAlias = Callable[[Tensor, Superpixels], Tensor]


@dataclass(frozen=True, eq=False)
class ScoredMasks:
    """What the superpixels of one image were given, in their own order."""

    scores: Float[Tensor, "Q M"]  # background first
    label: UInt8[Tensor, "M"]
    confidence: Float[Tensor, "M"]
    level: Int64[Tensor, "M"]
    area: Int64[Tensor, "M"]


@dataclass(frozen=True, eq=False)
class Seed:
    """A pseudo-label of one image."""

    labels: UInt8[Tensor, "H W"]  # 0 background, else class index + 1
    # the winning score; 0 where no superpixel speaks for the pixel
    confidence: Float[Tensor, "H W"]
    fell_back: bool  # no superpixel was there to pool on
    masks: ScoredMasks | None = None  # what the superpixels were given, if they were


# (CAMs, classes, superpixels, size, image) -> seed
Seeder: TypeAlias = Callable[
    [Tensor, Tensor, Superpixels | None, tuple[int, int], Tensor | None], Seed
]
Priority: TypeAlias = Callable[[ScoredMasks], Tensor]


@dataclass(frozen=True)
class CamSeeder:
    """Choose for every pixel the best of background and present classes; ignores superpixels."""

    score: Score  # `scores.resize_then_score` or `scores.score_then_resize`
    background: Background | None  # None is (1 - max)^background_power, as published
    crf: Refine | None  # any of `refinement`
    background_power: float = 1.0

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        classes: Int[Tensor, "P"],
        superpixels: Superpixels | None,
        size: tuple[int, int],
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> Seed:
        """Make the seed of one image of `size` (height, width); only a CRF looks at the image."""
        if len(classes) == 0:
            return make_background(cams, size)
        oppose = self.background or BackgroundPower(self.background_power)
        scores = oppose(self.score(cams, size))
        if self.crf is not None:
            scores = self.crf(scores, require_image(image))
        return Seed(*choose_labels(scores, classes), fell_back=False)


@dataclass(frozen=True)
class SuperpixelSeeder:
    """Give each superpixel one class, then paint superpixels over one another (SAMS, METHOD 7)."""

    prepare: Callable[[Tensor], Tensor]  # the resized CAMs: any of `scores`, published `clip_cams`
    pool: Pool  # on the superpixels: `pool_mean` or `pool_sum`
    # over the superpixels: `scores.score_cams`, or `keep_cams` for none
    normalise: Callable[[Tensor], Tensor]
    background: Background | None  # None is (1 - max)^background_power, as published
    # what paints over what: the first key decides, the next ones break its ties
    priority: Sequence[Priority]
    fallback: Seeder  # for an image without superpixels
    fill: Seeder | None  # for pixels in no superpixel; None leaves them background
    background_power: float = 1.0

    def __call__(
        self,
        cams: Float[Tensor, "P h w"],
        classes: Int[Tensor, "P"],
        superpixels: Superpixels | None,
        size: tuple[int, int],
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> Seed:
        """Make the seed of one image.

        Raises:
            ValueError: without its superpixels.
        """
        # images without a class, images without a superpixel
        found = require_superpixels(superpixels, size)
        if len(classes) == 0:
            return make_background(cams, size)
        if len(found) == 0:
            given = self.fallback(cams, classes, found, size, image)
            return Seed(_settle_ignored(given.labels), given.confidence, fell_back=True)

        pooled = self.pool(self.prepare(resize_maps(cams, size)), found)
        rest = None if self.fill is None else self.fill(cams, classes, found, size, image)
        return self.paint(pooled, classes, found, cams.device, rest)

    def score_masks(
        self, cams: Float[Tensor, "P h w"], classes: Int[Tensor, "P"], superpixels: Superpixels
    ) -> ScoredMasks:
        """Score one or more superpixels for background and classes; the result is on the CPU."""
        pooled = self.pool(self.prepare(resize_maps(cams, superpixels.size)), superpixels)
        return self.judge_masks(pooled, classes, superpixels)

    def judge_masks(
        self, pooled: Float[Tensor, "P M"], classes: Int[Tensor, "P"], superpixels: Superpixels
    ) -> ScoredMasks:
        """Score superpixels by what the maps hold under them."""
        oppose = self.background or BackgroundPower(self.background_power)
        scores = oppose(self.normalise(pooled))
        label, confidence = choose_labels(scores, classes)
        level, area = superpixels.level.long(), superpixels.area.long()
        return ScoredMasks(scores, label, confidence, level, area)

    def paint(
        self,
        pooled: Float[Tensor, "P M"],
        classes: Int[Tensor, "P"],
        superpixels: Superpixels,
        device: torch.device,
        rest: Seed | None,
    ) -> Seed:
        """Give every superpixel a class, and every pixel the superpixel on top."""
        masks = self.judge_masks(pooled, classes, superpixels)
        top = find_top_masks(order_masks(masks, self.priority), superpixels, device)
        return paint_masks(masks, top, rest)


class SeedMaker(nn.Module):
    """CAM → CAA → seeds (METHOD 5-7): `sams` is the product, `cam` and `caa` show each step."""

    def __init__(
        self, refine: Affinity | SceneAffinity, cam: Seeder, caa: Seeder, sams: Seeder
    ) -> None:
        super().__init__()
        self.refine = refine.requires_grad_(False) if isinstance(refine, nn.Module) else refine
        self.cam = cam
        self.caa = caa
        self.sams = sams

    def make(
        self,
        cams: Float[Tensor, "P h w"],
        attention: Float[Tensor, "N N"] | None,
        classes: Int[Tensor, "P"],
        superpixels: Superpixels | None,
        size: tuple[int, int],
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> tuple[Float[Tensor, "P h w"], dict[str, Seed]]:
        """Refine the CAMs of one image and seed from them at `size` (height, width).

        Without superpixels there is no `sams`. Only a CRF, and an affinity from another encoder,
        look at the image itself.
        """
        if isinstance(self.refine, SceneAffinity):
            scene = Scene(cams, attention, classes, superpixels, size, image)
            (refined,) = self.refine.refine_scenes([scene])
        else:
            seen = None if image is None else image.to(cams.device)
            refined = self.refine(cams, attention, seen)
        seeds = {
            "cam": self.cam(cams, classes, None, size, image),
            "caa": self.caa(refined, classes, None, size, image),
        }
        if superpixels is not None:
            seeds["sams"] = self.sams(refined, classes, superpixels, size, image)
        return refined, seeds


def make_background(cams: Float[Tensor, "P h w"], size: tuple[int, int]) -> Seed:
    """Make the seed of an image in which no class is present: background, beyond doubt."""
    confidence = widen(cams).new_ones(size)
    return Seed(torch.zeros_like(confidence, dtype=torch.uint8), confidence, fell_back=False)


def choose_labels(
    scores: Float[Tensor, "Q *shape"], classes: Int[Tensor, "P"]
) -> tuple[UInt8[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Choose the label of highest score, the first among equals, and return its score as well.

    A label is 0 for background, else class index + 1. The channels are the classes, with the
    background in front unless the first class is itself the background, -1.
    """
    labels = label_channels(len(scores), classes).to(scores.device)
    best = scores.argmax(0, keepdim=True)
    return labels[best[0]], scores.gather(0, best)[0]


def label_channels(channels: int, classes: Int[Tensor, "P"]) -> UInt8[Tensor, "Q"]:
    """Tell the label of each channel of the scores of an image, on the CPU.

    Raises:
        ValueError: when the channels are neither the classes nor the background and the classes.
    """
    numbers = classes.tolist()
    led = channels == len(numbers) + 1 or numbers[0] == -1
    if not led or max(numbers, default=0) >= IGNORE - 1:
        raise ValueError(
            f"Expected classes in 0…{IGNORE - 2}, the background (-1) first where the CAMs hold it "
            f"(BackgroundAlpha), found {numbers} for {channels} scores."
        )
    background = [-1] * (channels - len(numbers))
    return torch.tensor([number + 1 for number in (*background, *numbers)], dtype=torch.uint8)


def higher_level(masks: ScoredMasks) -> Int64[Tensor, "M"]:
    """Paint wholes over parts over subparts (published, first)."""
    return masks.level


def lower_level(masks: ScoredMasks) -> Int64[Tensor, "M"]:
    """Paint subparts over parts over wholes."""
    return -masks.level


def higher_confidence(masks: ScoredMasks) -> Float[Tensor, "M"]:
    """Paint the surer mask over the less sure (published, second)."""
    return masks.confidence


def lower_confidence(masks: ScoredMasks) -> Float[Tensor, "M"]:
    """Paint the less sure mask over the surer."""
    return -masks.confidence


def larger_area(masks: ScoredMasks) -> Int64[Tensor, "M"]:
    """Paint the larger mask over the smaller."""
    return masks.area


def smaller_area(masks: ScoredMasks) -> Int64[Tensor, "M"]:
    """Paint the smaller mask over the larger."""
    return -masks.area


def order_masks(masks: ScoredMasks, priority: Sequence[Priority]) -> Int64[Tensor, "M"]:
    """Order masks by ascending priority, the first key first; equal ones keep their order."""
    order = torch.arange(len(masks.label))
    for key in reversed(priority):
        order = order[key(masks)[order].argsort(stable=True)]
    return order


def find_top_masks(
    order: Int64[Tensor, "M"], superpixels: Superpixels, device: torch.device
) -> Int64[Tensor, "H W"]:
    """Paint superpixels in order and return the one on top of every pixel, -1 where none is."""
    height, width = superpixels.size
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))

    # every pixel of every mask bids the rank of its mask
    owner, pixels = superpixels.pixels(device)
    bids = rank.to(device)[owner]
    top = torch.full((height * width,), -1, device=device).scatter_reduce_(0, pixels, bids, "amax")
    return torch.cat([order, order.new_tensor([-1])]).to(device)[top].view(width, height).T


def paint_masks(masks: ScoredMasks, top: Int64[Tensor, "H W"], rest: Seed | None) -> Seed:
    """Give every pixel what its top superpixel got; where there is none (-1), what `rest` says."""
    covered = top >= 0
    # what stands behind the last superpixel belongs to pixels in none
    labels, confidence = (
        torch.cat([value, value.new_zeros(1)]).to(top.device)[top]
        for value in (masks.label, masks.confidence)
    )
    if rest is not None:
        labels = torch.where(covered, labels, _settle_ignored(rest.labels))
        confidence = torch.where(covered, confidence, rest.confidence)
    return Seed(labels, confidence, fell_back=False, masks=masks)


def _settle_ignored(labels: UInt8[Tensor, "H W"]) -> UInt8[Tensor, "H W"]:
    """Turn 255, which no seed of ours holds, into background."""
    return labels.masked_fill(labels == IGNORE, 0)
