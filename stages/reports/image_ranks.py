"""Rank images by their journal: by IoU, by confidence, by how badly labels and seeds agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from fmawsss.files.journals import Line
from stages.reports.lines import ReportLines

UNSEEN = 0.0005  # of the image: a class with fewer pixels counts as missing from its seed
UNLIKELY = 0.001  # no probability is taken for less, or for more than what is left
CONFIDENT = 0.5  # probability, or mean confidence, from which an unlabelled class is suspected


class Doubt(NamedTuple):
    """Why a label of an image may be wrong, or be missing, and how strongly (0…1).

    value: the class, as masks hold it.
    """

    strength: float
    value: int
    listed: bool
    reason: str


class Suspicion(NamedTuple):
    """Why the labels of an image may be wrong, and how strongly (0…1)."""

    line: Line
    strength: float
    doubts: list[Doubt]

    @property
    def reasons(self) -> list[str]:
        """What to tell a person."""
        return [doubt.reason for doubt in self.doubts]


def rank_images(lines: ReportLines, count: int) -> dict[str, list[tuple[Line, str]]]:
    """Choose the `count` best, worst and most uncertain images, each with what it was chosen by.

    Of few images a third each; without any score the most uncertain ones take all the room, least
    certain first.
    """
    # the numbers of the images, lowest value first
    scores, confidences = lines.scores, lines.confidences
    scored, sure = list_known(scores), list_known(confidences)
    images = lines.values()
    few = min(count, max(1, len(lines) // 3))
    groups = {
        "worst": [(number, f"IoU {100 * scores[number]:.0f}") for number in scored[:few]],
        "most uncertain": [
            (number, f"confidence {confidences[number]:.2f}")
            for number in sure[: few if scored else 3 * count]
        ],
        "best": [(number, f"IoU {100 * scores[number]:.0f}") for number in scored[::-1][:few]],
    }
    return {
        name: [(images[number], remark) for number, remark in group]
        for name, group in groups.items()
        if group
    }


def list_known(values: Float64[np.ndarray, "N"]) -> list[int]:
    """List the numbers of the values that are known, the lowest first."""
    order = values.argsort(kind="stable")  # NaN comes last
    return order[: int(np.isfinite(values).sum())].tolist()


def find_suspicions(lines: Sequence[Line], classes: Sequence[str]) -> list[Suspicion]:
    """Find images whose labels and seeds disagree, the likeliest label errors first.

    `classes` begin with the background.
    """
    found = [suspect_labels(line, classes) for line in lines if line.get("labels") is not None]
    suspicious = [suspicion for suspicion in found if suspicion.reasons]
    return sorted(suspicious, key=lambda suspicion: -suspicion.strength)


def suspect_labels(line: Line, classes: Sequence[str]) -> Suspicion:
    """Say why the labels of an image may be wrong; see `find_doubts`."""
    found = find_doubts(line, classes)
    strength = max([0.0, *(doubt.strength for doubt in found)])
    return Suspicion(line, strength, found)


def find_doubts(line: Line, classes: Sequence[str]) -> list[Doubt]:
    """Compare the labels of an image with its mask and with the probabilities of the classes.

    Suspicious are a label without pixels or that nobody thinks probable, an unlabelled class that
    is more probable than a labelled one, and an unlabelled class that a network is sure to see.
    """
    # What is known of the image
    labels = set(line["labels"])
    probable = weigh_classes(line)
    weakest = min((probable[label] for label in labels if label in probable), default=1.0)
    regions = list(line.get("regions", {}).values())
    seen = [region for region in regions[-1] if region[0]] if regions else []
    shares = {value - 1: (share, sure) for value, share, sure in seen}

    # Why, each reason with its strength
    found: list[Doubt] = []
    for label in sorted(labels):
        if regions and shares.get(label, (0, 0))[0] < UNSEEN:
            reason = f"labelled {classes[label + 1]}, but its mask has no pixel of it"
            found.append(Doubt(1 - probable.get(label, 0.5), label + 1, True, reason))
        elif "told" in line and probable[label] < CONFIDENT / 2:
            reason = f"labelled {classes[label + 1]}, but hardly probable ({probable[label]:.2f})"
            found.append(Doubt(1 - probable[label], label + 1, True, reason))
    for other, probability in probable.items():
        if other not in labels and probability > max(weakest, CONFIDENT / 2):
            reason = f"but more probable than a label ({probability:.2f})"
            reason = f"{classes[other + 1]} is not labelled, {reason}"
            found.append(Doubt(probability, other + 1, False, reason))
    for other, (share, sure) in shares.items():
        if other not in labels and share >= UNSEEN and sure >= CONFIDENT:
            reason = f"but seen on {100 * share:.0f}% ({sure:.2f} sure)"
            reason = f"{classes[other + 1]} is not labelled, {reason}"
            found.append(Doubt(sure * min(1.0, 20 * share), other + 1, False, reason))
    return found


def weigh_classes(line: Line) -> dict[int, float]:
    """Say how probable classes are: as CLIP and the look-alikes of a memory have it.

    The mean of both is taken of the logarithms of their odds.
    """
    probable, told = (dict(map(tuple, line.get(key) or ())) for key in ("probable", "told"))
    if not (probable and told):
        return probable or told
    return {
        index: join_odds(probable.get(index, UNLIKELY), told.get(index, UNLIKELY))
        for index in probable | told
    }


def join_odds(one: float, other: float) -> float:
    """Return the probability whose log odds are the mean of those of two, which are no extremes."""
    one, other = (min(max(value, UNLIKELY), 1 - UNLIKELY) for value in (one, other))
    yes, no = (one * other) ** 0.5, ((1 - one) * (1 - other)) ** 0.5
    return yes / (yes + no)
