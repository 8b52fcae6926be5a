"""The report's sections about scores: totals, IoU per class, confusions; areas without truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from fmawsss.files.journals import Line
from stages.pages import Section, render
from stages.reports.report import RunFolder, StageNote
from stages.scores import TOTALS

SHOWN_CONFUSIONS = 8


class Confusion(NamedTuple):
    """Pixels of one class taken for another, and their share of all pixels of that class."""

    truth: str
    taken_for: str
    pixels: int
    share: float


def show_scores(folder: RunFolder) -> Section | None:
    """Show the totals of all masks, and bars of IoU per class for each stage's last kind."""
    rows = [
        (stage, split, kind, score)
        for stage, splits in folder.scores.items()
        for split, kinds in splits.items()
        for kind, score in kinds.items()
    ]
    if not rows:
        return None

    # Each stage's last kind of mask, and what it confuses
    last = {f"{stage}, {split}": score["iou"] for stage, split, _, score in rows}
    confusions = {
        f"{stage.name}, {stage.split}": found
        for stage in folder.stages
        if (found := list_confusions(stage, folder.read_lines(stage).confusion))
    }

    page = render(
        "scores.html.j2",
        rows=rows,
        totals=TOTALS,
        bars=list_bars(last),
        last=last,
        confusions=confusions,
    )
    return Section("Scores", page)


def show_areas(folder: RunFolder) -> Section | None:
    """Show the share of each class in the images of stages whose masks have no truth."""
    panels = {}
    for stage in folder.stages:
        lines = folder.read_lines(stage)
        if lines.counted.any():
            continue
        if images := int(lines.parted.sum()):
            areas = list_areas(lines.list_with("regions"), stage.classes)
            panels[f"{stage.name}, {stage.split}"] = (images, areas)
    return Section("Areas", render("areas.html.j2", panels=panels)) if panels else None


def list_areas(lines: Iterable[Line], classes: Sequence[str]) -> list[tuple[str, float, int]]:
    """List (class, share of the images, images that show it), the largest first."""
    images, shares = 0, dict[int, list[float]]()
    for regions in filter(None, (line.get("regions") for line in lines)):
        images += 1
        for value, share, _ in list(regions.values())[-1]:
            shares.setdefault(value, []).append(share)

    # The mean over all images, those without the class included
    known = [(value, own) for value, own in shares.items() if value < len(classes)]
    areas = [(classes[value], sum(own) / images, len(own)) for value, own in known]
    return sorted(areas, key=lambda area: -area[1])


def list_bars(last: dict[str, dict[str, float | None]]) -> list[tuple[str, list[float | None]]]:
    """List each class with its IoU at every stage.

    The last stage that knows a class decides its place, the best first.
    """
    classes = dict.fromkeys(name for ious in last.values() for name in ious)
    bars = [(name, [ious.get(name) for ious in last.values()]) for name in classes]
    shown = [(name, values) for name, values in bars if any(value is not None for value in values)]
    return sorted(
        shown, key=lambda bar: -next(value for value in reversed(bar[1]) if value is not None)
    )


def list_confusions(stage: StageNote, total: Int64[Tensor, "R R+1"] | None) -> list[Confusion]:
    """List the pairs of classes of which most pixels were confused."""
    if total is None:
        return []

    # Pairs with most pixels
    counts = total[:, :-1]
    wrong = counts - torch.diag(counts.diagonal())
    order = wrong.flatten().argsort(descending=True)[:SHOWN_CONFUSIONS]

    # Their names
    found = []
    for truth, guess in (divmod(place, len(stage.classes)) for place in order.tolist()):
        pixels = int(wrong[truth, guess])
        if pixels:
            share = pixels / int(counts[truth].sum())
            found.append(Confusion(stage.classes[truth], stage.classes[guess], pixels, share))
    return found
