"""Affinity of patches that CLIP takes for the same classes (METHOD 11.2, after CD-CLIP)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fmawsss.affinity import apply_affinity, check_attention, strip_partial
from fmawsss.precision import multiply, widen
from fmawsss.scenes import BLOCK, Scene, cut_blocks, gather_equal, map_images

EPSILON = 1e-7  # of min-max, as that of scores


def compare_patches(
    patches: Float[Tensor, "B N E"], text_features: Float[Tensor, "T E"]
) -> Float[Tensor, "B N T"]:
    """Return the cosines between projected patches and prompts, never in half precision."""
    unit = F.normalize(widen(patches), dim=-1)
    return multiply(unit, F.normalize(widen(text_features), dim=-1).T)


def distribute_classes(cosines: Float[Tensor, "N T"], sharpness: float) -> Float[Tensor, "N T"]:
    """Turn the cosines of patches into a distribution over prompts each: `u` of METHOD 11.2."""
    least, most = cosines.amin(dim=0), cosines.amax(dim=0)
    return (sharpness * (cosines - least) / (most - least + EPSILON)).softmax(dim=1)


def measure_divergence(
    left: Float[Tensor, "n T"], right: Float[Tensor, "N T"]
) -> Float[Tensor, "n N"]:
    """Measure the Jensen-Shannon divergence of each pair of distributions, in nats (0 to ln 2).

    It is the entropy of their mean less the mean of their entropies.
    """
    mean = (left[:, None] + right[None]) / 2
    own = (measure_entropy(left)[:, None] + measure_entropy(right)[None]) / 2
    return measure_entropy(mean) - own


def measure_entropy(distributions: Float[Tensor, "*shape T"]) -> Float[Tensor, "*shape"]:
    """Measure the entropy of distributions, in nats."""
    return -torch.xlogy(distributions, distributions).sum(dim=-1)


def gather_alike(
    values: Float[Tensor, "P N"],
    distributions: Float[Tensor, "N T"],
    temperature: float,
) -> Float[Tensor, "P N"]:
    """Let each patch average the values of those that are taken for the same classes.

    The weights are `softmax over j of (1 - JS(u_i || u_j)) / temperature`. They are made for some
    rows at a time, `BLOCK` numbers, and never held for all.
    """
    rows = max(BLOCK // max(distributions.numel(), 1), 1)
    gathered = []
    for part in distributions.split(rows):
        alike = (1 - measure_divergence(part, distributions)) / temperature
        gathered.append(values @ alike.softmax(dim=1).T)
    return torch.cat(gathered, dim=1)


@dataclass(frozen=True)
class ClassDistributionRefiner:
    """Refine CAMs by `(softmax(S) A) ** power x`: A is CAA's affinity; no box masks it.

    attention_blocks: the encoder averages the attention of this many last blocks.
    iterations: of sinkhorn.
    power: how often CAMs are spread; 0 leaves the values as they are.
    sharpness: of the distributions over prompts, beta.
    temperature: of the softmax over patches, tau.
    values: x, `scores.score_cams` or `scores.keep_cams`.
    """

    attention_blocks: int
    iterations: int
    power: int
    sharpness: float
    temperature: float
    values: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", strip_partial(self.values))

    def refine_scenes(self, scenes: Sequence[Scene]) -> list[Float[Tensor, "_P h w"]]:
        """Refine the CAMs of each image, those with as many pairs on one grid together.

        Raises:
            ValueError: without attention, or where no CLIP compared the patches with prompts.
        """
        attention = [check_attention(scene.cams, scene.attention) for scene in scenes]
        cosines = [require_cosines(scene) for scene in scenes]
        refined: dict[int, Tensor] = {}
        for numbers in gather_equal([scene.cams.shape for scene in scenes]):
            each = attention[numbers[0]].numel() * cosines[numbers[0]].shape[1]
            for block in cut_blocks(numbers, each):
                parts = ((scenes[n].cams, cosines[n], attention[n]) for n in block)
                found = map_images(self.spread, *zip(*parts, strict=True))
                refined |= zip(block, found, strict=True)
        return [refined[number] for number in range(len(scenes))]

    def spread(
        self,
        cams: Float[Tensor, "P h w"],
        cosines: Float[Tensor, "N T"],
        attention: Float[Tensor, "N N"],
    ) -> Float[Tensor, "P h w"]:
        """Refine the CAMs of one image."""
        values = self.values(cams)
        dtype = torch.promote_types(widen(values).dtype, attention.dtype)
        flat, attention = values.flatten(1).to(dtype), attention.to(dtype)
        with torch.autocast(cams.device.type, enabled=False):
            distributions = distribute_classes(cosines.to(dtype), self.sharpness)
            for _ in range(self.power):
                flat = apply_affinity(flat, attention, self.iterations, power=1)
                flat = gather_alike(flat, distributions, self.temperature)
        return flat.view_as(cams)


def require_cosines(scene: Scene) -> Float[Tensor, "N T"]:
    """Return the cosines between patches and prompts.

    Raises:
        ValueError: where no CLIP saw the image, as of CAMs on disk.
    """
    if scene.compare is None:
        raise ValueError(
            "affinity=class_distribution compares patches with prompts, which CAMs on disk do not "
            "hold: apply the prompts (python infer.py task=cls affinity=class_distribution), or "
            "choose another affinity"
        )
    return scene.compare()
