"""How well two seeds of an image agree under its image labels: needs no ground truth."""

from __future__ import annotations

from jaxtyping import Int, UInt8
from torch import Tensor


def measure_agreement(
    superpixel_seed: UInt8[Tensor, "H W"],
    pixel_seed: UInt8[Tensor, "H W"],
    classes: Int[Tensor, "P"],
) -> float:
    """Average the IoU of two seeds over background and the P labelled classes; in 0…1.

    One seed was decided superpixel by superpixel, the other pixel by pixel from the same CAMs:
    where class regions are superpixels, the two are equal. A class that the image is labelled with
    and that neither seed holds counts as 0, and so does a missing background: an empty seed agrees
    with no label.
    """
    ious = [
        _compare_regions(superpixel_seed == label, pixel_seed == label)
        for label in (0, *(classes + 1).tolist())
    ]
    return sum(ious) / len(ious)


def _compare_regions(one: Tensor, other: Tensor) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0
