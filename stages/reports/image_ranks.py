"""Rank images by what their journal says: by score, by confidence, by how badly labels and seeds
agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fmawsss.files.journals import Line, find_miou

ABSENT = 0.0005  # of the image: a class with fewer pixels counts as missing from its seed
CONFIDENT = 0.5  # probability, or mean confidence, from which an unlabelled class is suspected


class Suspicion(NamedTuple):
    """Why the labels of an image may be wrong, and how strongly (0…1)."""

    line: Line
    strength: float
    reasons: list[str]


def score_image(line: Line) -> float | None:
    """Return the IoU of an image by its last kind of mask, averaged over the classes in its truth;
    None without one.
    """
    kinds = [counts for counts in line["confusion"].values() if counts]
    return find_miou(kinds[-1]) if kinds else None


def read_confidence(line: Line) -> float | None:
    """Return the mean confidence of an image's last kind of mask; None where the journal has none."""
    regions = list(line.get("regions", {}).values())
    return sum(share * confidence for _, share, confidence in regions[-1]) if regions else None


def rank_images(lines: Sequence[Line], count: int) -> dict[str, list[tuple[Line, str]]]:
    """Choose the `count` best, worst and most uncertain images, each with what it was chosen by.

    Of few images a third each; without any score the most uncertain ones take all the room, least
    certain first.
    """
    scored = sorted(
        ((score, line) for line in lines if (score := score_image(line)) is not None),
        key=lambda x: x[0],
    )
    sure = sorted(
        ((sure, line) for line in lines if (sure := read_confidence(line)) is not None),
        key=lambda x: x[0],
    )
    few = min(count, max(1, len(lines) // 3))
    groups = {
        "worst": [(line, f"IoU {100 * score:.0f}") for score, line in scored[:few]],
        "most uncertain": [
            (line, f"confidence {value:.2f}")
            for value, line in sure[: few if scored else 3 * count]
        ],
        "best": [(line, f"IoU {100 * score:.0f}") for score, line in scored[::-1][:few]],
    }
    return {name: group for name, group in groups.items() if group}


def find_suspicions(lines: Sequence[Line], classes: Sequence[str]) -> list[Suspicion]:
    """Find images whose labels and seeds disagree, the likeliest label errors first; background
    leads `classes`.
    """
    found = [suspect_labels(line, classes) for line in lines if line.get("labels") is not None]
    return sorted(
        (suspicion for suspicion in found if suspicion.reasons),
        key=lambda suspicion: -suspicion.strength,
    )


def suspect_labels(line: Line, classes: Sequence[str]) -> Suspicion:
    """Compare the labels of an image with its mask and with the probabilities of the classes.

    Suspicious are a label without pixels, an unlabelled class that is more probable than a labelled
    one, and an unlabelled class that a network is sure to see.
    """
    labels, reasons = set(line["labels"]), []
    probable = dict(map(tuple, line.get("probable", ())))
    weakest = min((probable[label] for label in labels if label in probable), default=1.0)
    regions = list(line.get("regions", {}).values())
    shares = (
        {value - 1: (share, sure) for value, share, sure in regions[-1] if value} if regions else {}
    )
    strength = 0.0
    for label in sorted(labels):
        if regions and shares.get(label, (0, 0))[0] < ABSENT:
            strength = max(strength, 1 - probable.get(label, 0.5))
            reasons.append(f"labelled {classes[label + 1]}, but its mask has no pixel of it")
    for other, probability in probable.items():
        if other not in labels and probability > max(weakest, CONFIDENT / 2):
            strength = max(strength, probability)
            reasons.append(
                f"{classes[other + 1]} is not labelled, but more probable than a label "
                f"({probability:.2f})"
            )
    for other, (share, sure) in shares.items():
        if other not in labels and share >= ABSENT and sure >= CONFIDENT:
            strength = max(strength, sure * min(1.0, 20 * share))
            reasons.append(
                f"{classes[other + 1]} is not labelled, but seen on {100 * share:.0f}% ({sure:.2f} "
                "sure)"
            )
    return Suspicion(line, strength, reasons)
