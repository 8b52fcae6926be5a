"""Affinity from another encoder than CLIP (METHOD 11.3): what looks alike to DINO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from fmawsss.affinity import apply_affinity, check_attention, mask_boxes_released
from fmawsss.dino.encoder import PatchEncoder
from fmawsss.memory import measure_shares
from fmawsss.networks.refinement import require_image
from fmawsss.precision import widen
from fmawsss.scenes import BLOCK, Scene, gather_equal
from fmawsss.scores import score_cams
from fmawsss.superpixels import Superpixels, require_superpixels

HALF = 0.5  # of a patch's cell: a superpixel that covers as much holds the patch
Columns = Callable[[Tensor, Scene], Tensor]


class EncoderAffinity(nn.Module, ABC):
    """Refine CAMs by what an encoder beside CLIP makes of the image; a subclass says how.

    encoder: sees all images of one grid together.
    values: what is spread, `scores.score_cams` or `scores.keep_cams`.
    """

    attention_blocks = 0  # of CLIP that are averaged
    encoder_blocks = 0  # of the encoder

    def __init__(self, encoder: PatchEncoder, values: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.values = values

    def refine_scenes(self, scenes: Sequence[Scene]) -> list[Float[Tensor, "_P h w"]]:
        """Refine the CAMs of each image.

        Raises:
            ValueError: for an image without what the formula needs.
        """
        refined: dict[int, Tensor] = {}
        for numbers in gather_equal([scene.cams.shape[1:] for scene in scenes]):
            grid = read_grid(scenes[numbers[0]].cams)
            images = [require_image(scenes[n].image).to(scenes[n].cams.device) for n in numbers]
            seen = self.encoder.encode(images, grid, self.encoder_blocks)
            for place, number in enumerate(numbers):
                attention = None if seen.attention is None else seen.attention[place]
                found = self.spread(scenes[number], seen.features[place], attention)
                refined[number] = found.view_as(scenes[number].cams)
        return [refined[number] for number in range(len(scenes))]

    def read_values(self, scene: Scene) -> Float[Tensor, "P N"]:
        """Return what is spread, never in half precision."""
        return widen(self.values(scene.cams).flatten(1))

    @abstractmethod
    def spread(
        self,
        scene: Scene,
        features: Float[Tensor, "N D"],
        attention: Float[Tensor, "N N"] | None,
    ) -> Float[Tensor, "P N"]:
        """Refine the CAMs of one image by the encoder's features and attention of its patches."""


class MixedAttention(EncoderAffinity):
    """CAA on a mixture of two attentions, after SSR: `0.4 CLIP + 0.6 DINO`.

    attention_blocks, encoder_blocks: the last ones of CLIP and of the encoder, averaged.
    share: of the encoder's attention.
    iterations: of sinkhorn.
    power: how often CAMs are spread.
    columns: which patches may be gathered from, as `spare_inactive`.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        values: Callable[[Tensor], Tensor],
        attention_blocks: int,
        encoder_blocks: int,
        share: float,
        iterations: int,
        power: int,
        columns: Columns,
    ) -> None:
        super().__init__(encoder, values)
        self.attention_blocks = attention_blocks
        self.encoder_blocks = encoder_blocks
        self.share = share
        self.iterations = iterations
        self.power = power
        self.columns = columns

    def spread(
        self,
        scene: Scene,
        features: Float[Tensor, "N D"],
        attention: Float[Tensor, "N N"] | None,
    ) -> Float[Tensor, "P N"]:
        """Mix both attentions, mask columns, and spread as CAA does."""
        assert attention is not None
        own = check_attention(scene.cams, scene.attention)
        mixed = (1 - self.share) * own + self.share * attention.to(own)
        values = self.read_values(scene) * self.columns(score_cams(scene.cams), scene)
        return apply_affinity(values.to(mixed), mixed, self.iterations, self.power)


class ProxyAffinity(EncoderAffinity):
    """Attention made of features, after ProxyCLIP: `softmax(scale (S - shift mean S))`.

    Patches less alike than that are left out; a patch is never left out of its own row.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        values: Callable[[Tensor], Tensor],
        shift: float,
        scale: float,
    ) -> None:
        super().__init__(encoder, values)
        self.shift = shift
        self.scale = scale

    def spread(
        self,
        scene: Scene,
        features: Float[Tensor, "N D"],
        attention: Float[Tensor, "N N"] | None,
    ) -> Float[Tensor, "P N"]:
        """Average over what looks alike."""
        unit = F.normalize(features, dim=1)
        mean = unit.mean(dim=0).square().sum()  # of all cosines

        def weigh(cosines: Tensor, rows: Tensor) -> Tensor:
            logits = self.scale * (cosines - self.shift * mean)
            itself = rows[:, None] == torch.arange(len(unit), device=unit.device)
            return logits.masked_fill((logits < 0) & ~itself, float("-inf")).softmax(dim=1)

        return gather_rows(self.read_values(scene), unit, weigh)


class SuperpixelAffinity(EncoderAffinity):
    """Attention within superpixels, after CorrCLIP: `softmax(sharpness S)` inside them only.

    alike: superpixels whose mean features have a larger cosine are one; None merges none.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        values: Callable[[Tensor], Tensor],
        sharpness: float,
        alike: float | None,
    ) -> None:
        super().__init__(encoder, values)
        self.sharpness = sharpness
        self.alike = alike

    def spread(
        self,
        scene: Scene,
        features: Float[Tensor, "N D"],
        attention: Float[Tensor, "N N"] | None,
    ) -> Float[Tensor, "P N"]:
        """Average over what looks alike in the same superpixel."""
        unit = F.normalize(features, dim=1)
        regions = assign_patches(read_grid(scene.cams), read_superpixels(scene))
        if self.alike is not None:
            regions = merge_regions(unit.cpu(), regions, self.alike)
        regions = regions.to(unit.device)

        def weigh(cosines: Tensor, rows: Tensor) -> Tensor:
            apart = regions[rows, None] != regions[None]
            return (self.sharpness * cosines).masked_fill(apart, float("-inf")).softmax(dim=1)

        return gather_rows(self.read_values(scene), unit, weigh)


def gather_rows(
    values: Float[Tensor, "P N"],
    unit: Float[Tensor, "N D"],
    weigh: Callable[[Tensor, Tensor], Tensor],
) -> Float[Tensor, "P N"]:
    """Let each patch average values by weights made of its cosines, `BLOCK` numbers at a time.

    weigh: from the cosines of some rows, (n, N), and the numbers of these rows to weights.
    """
    gathered = []
    with torch.autocast(values.device.type, enabled=False):
        for rows in torch.arange(len(unit), device=unit.device).split(max(BLOCK // len(unit), 1)):
            weights = weigh(unit[rows] @ unit.T, rows)
            gathered.append(values @ weights.to(values).T)
    return torch.cat(gathered, dim=1)


def spare_inactive(
    scores: Float[Tensor, "P h w"], scene: Scene, threshold: float
) -> Bool[Tensor, "P N"]:
    """Leave out the patches of superpixels without an active class, for all classes (SSR).

    A class is active where the mean of its score over the superpixel reaches the threshold. Patches
    that no superpixel holds stay.
    """
    superpixels = read_superpixels(scene)
    shares = measure_shares(read_grid(scores), superpixels).to(scores)
    means = scores.flatten(1) @ shares.T / shares.sum(dim=1).clamp_min(1e-7)
    active = (means >= threshold).any(dim=0)
    held = shares >= HALF
    spared = ~held.any(dim=0) | (held & active[:, None]).any(dim=0)
    return spared.expand(len(scores), -1)


def keep_boxes(
    scores: Float[Tensor, "P h w"], scene: Scene, threshold: float
) -> Bool[Tensor, "P N"]:
    """Leave out the patches outside the boxes of each class, as CAA does (METHOD 5)."""
    return mask_boxes_released(scores, threshold)


def keep_all(scores: Float[Tensor, "P h w"], scene: Scene) -> Bool[Tensor, "P N"]:
    """Leave out no patch."""
    return torch.ones_like(scores.flatten(1), dtype=torch.bool)


def assign_patches(grid: tuple[int, int], superpixels: Superpixels) -> Int64[Tensor, "N"]:
    """Number the superpixel that holds each patch, at least half of its cell; M where none does.

    Of several it is the one of highest level (as they are painted), then the one that covers most.
    """
    shares = measure_shares(grid, superpixels)
    if not len(shares):
        return torch.zeros(grid[0] * grid[1], dtype=torch.int64)
    rank = superpixels.level[:, None].float() + shares.float()
    rank = rank.masked_fill(shares < HALF, -1)
    best, owner = rank.max(dim=0)
    return owner.masked_fill(best < 0, len(superpixels))


def merge_regions(
    unit: Float[Tensor, "N D"], regions: Int64[Tensor, "N"], alike: float
) -> Int64[Tensor, "N"]:
    """Join regions whose mean features have a cosine above `alike`, also by way of others."""
    names, own = regions.unique(return_inverse=True)
    sums = unit.new_zeros(len(names), unit.shape[1]).index_add(0, own, unit)
    means = F.normalize(sums, dim=1)
    _, groups = connected_components((means @ means.T > alike).numpy(), directed=False)
    return torch.from_numpy(groups).long()[own]


def read_grid(cams: Float[Tensor, "P h w"]) -> tuple[int, int]:
    """Return the patch grid (h, w) of CAMs."""
    return cams.shape[1], cams.shape[2]


def read_superpixels(scene: Scene) -> Superpixels:
    """Return the superpixels of an image; raises ValueError without them."""
    return require_superpixels(scene.superpixels, scene.size)
