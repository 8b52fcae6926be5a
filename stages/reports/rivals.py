"""The report's background words: which of them rival the labelled classes of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from fmawsss.files.journals import Line
from stages.pages import Section, render
from stages.reports.report import RunFolder

WORDS = 5  # of a class
LEAST = 0.005  # a mean probability below says nothing


class Rivalry(NamedTuple):
    """A class, or all: its images, their mean probability of words, and how often a word wins."""

    name: str
    images: int
    words: list[tuple[str, float]]
    won: int


def show_rivals(folder: RunFolder) -> Section | None:
    """Show the background words that images are most like, for each labelled class."""
    panels = {}
    for stage in folder.stages:
        lines = folder.read_lines(stage).list_with("rivals")
        if rivalries := compare_words(lines, stage.classes):
            panels[f"{stage.name}, {stage.split}"] = rivalries
    return Section("Background words", render("rivals.html.j2", panels=panels)) if panels else None


def compare_words(lines: Iterable[Line], classes: tuple[str, ...]) -> list[Rivalry]:
    """Average the probabilities of words over the images of each class, and over all.

    Of an image the journal knows the likeliest words only; the others count as 0. A word wins an
    image when it is likelier than all labels together.
    """
    images, won = Counter[str](), Counter[str]()
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        shown = [classes[label + 1] for label in line.get("labels") or ()]
        for name in ("all images", *shown):
            images[name] += 1
            won[name] += line["rivals"][0][1] > 0.5
            sums[name].update(dict(line["rivals"]))
    means = {
        name: [(word, total / images[name]) for word, total in sums[name].most_common(WORDS)]
        for name in images
    }
    return [
        Rivalry(name, images[name], [pair for pair in means[name] if pair[1] >= LEAST], won[name])
        for name in ("all images", *classes)
        if images[name]
    ]
