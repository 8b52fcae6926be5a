"""The report's pictures: chosen images of each stage, labels in doubt, superpixels."""

from __future__ import annotations

import base64
import heapq
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from statistics import mean, median
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image

from stages.pages import Section, render
from stages.reports.doubts import DOUBTS_FILE, DoubtTable
from stages.reports.image_ranks import Line, Suspicion, rank_images, suspect_labels
from stages.reports.lines import ReportLines
from stages.reports.overviews import (
    NAMES,
    Picture,
    choose_palette,
    gather_overview,
    list_classes,
    name_classes,
)
from stages.reports.report import RunFolder, StageNote

QUALITY = 78  # of WebP
BINS = 12
LABEL_FACTS = ("labels", "probable")
LEVEL_NAMES = ("subpart", "part", "whole")


class Inlined(NamedTuple):
    """A picture inside the page: caption, the address of its own data, a description, its size."""

    caption: str
    address: str
    text: str
    width: int
    height: int


class Row(NamedTuple):
    """One image of a panel: its pictures, and a remark."""

    name: str
    remark: str
    pictures: list[Inlined]


def show_images(folder: RunFolder, images: int) -> Section | None:
    """Show `images` best, worst and most uncertain images of every stage that has masks."""
    panels = {}
    for stage in folder.stages:
        lines = folder.read_lines(stage)
        if lines.confusion is None and not lines.parted.any():
            continue
        ranked = rank_images(lines, images)
        groups = {title: draw_rows(folder, stage, chosen) for title, chosen in ranked.items()}
        if any(groups.values()):
            product = NAMES.get(stage.product.name, stage.product.name)
            panels[f"{product}: {stage.name}, {stage.split}"] = groups
    if not panels:
        return None
    return Section("Images", render("images.html.j2", panels=panels, legend=list_legend(folder)))


def show_label_doubts(folder: RunFolder, images: int) -> Section | None:
    """Show the `images` likeliest label errors of every stage that knows labels; count the rest."""
    table, panels = DoubtTable(), {}
    for stage, lines in join_facts(folder):
        labelled, doubtful, found = choose_doubts(
            lines, stage.classes, images, partial(table.enter, stage)
        )
        if labelled:
            chosen = [(doubt.line, "; ".join(doubt.reasons)) for doubt in found]
            rows = draw_rows(folder, stage, chosen)
            panels[f"{stage.name}, {stage.split}"] = (doubtful, labelled, rows)
    table.write(folder.path / DOUBTS_FILE)
    return Section("Labels in doubt", render("labels.html.j2", panels=panels)) if panels else None


def choose_doubts(
    lines: Iterable[Line],
    classes: Sequence[str],
    count: int,
    enter: Callable[[Suspicion], None],
) -> tuple[int, int, list[Suspicion]]:
    """Count images whose labels and masks are known, and those in doubt; choose the strongest.

    enter: takes each that is in doubt.
    """
    seen = Counter[str]()

    def list_doubts() -> Iterator[Suspicion]:
        for line in lines:
            if line.get("labels") is not None:
                seen["labelled"] += 1
                suspicion = suspect_labels(line, classes)
                if suspicion.doubts:
                    seen["doubtful"] += 1
                    enter(suspicion)
                    yield suspicion

    found = heapq.nlargest(count, list_doubts(), key=attrgetter("strength"))
    return seen["labelled"], seen["doubtful"], found


def join_facts(folder: RunFolder) -> Iterator[tuple[StageNote, Iterator[Line]]]:
    """Give the images of each stage whose regions are known with what is known of their labels.

    That is what the stage knows, or the nearest one before it, or after it where none before does.
    """
    for number, stage in enumerate(folder.stages):
        order = [*folder.stages[number::-1], *folder.stages[number + 1 :]]
        others = [folder.read_lines(other) for other in order[1:]]
        lines = folder.read_lines(stage).list_with("regions")
        yield stage, (add_facts(line, others) for line in lines)


def add_facts(line: Line, others: Sequence[ReportLines]) -> Line:
    """Add what other lines of an image know of its labels, the first that does, to its own."""
    missing = {key for key in LABEL_FACTS if line.get(key) is None}
    added: dict[str, Any] = {}
    for lines in others:
        if missing and line["name"] in lines:
            other = lines[line["name"]]
            added |= {key: other[key] for key in missing if other.get(key) is not None}
            missing -= added.keys()
    return {**line, **added}


def show_superpixels(folder: RunFolder) -> Section | None:
    """Show how many superpixels the images have, by level, and how much they cover."""
    facts = list_superpixel_facts(folder)
    if not facts:
        return None

    # Numbers
    numbers = [sum(fact["levels"]) for fact in facts]
    areas = [fact["median_area"] for fact in facts if fact["median_area"] is not None]
    values = {
        "images": f"{len(facts)}",
        "superpixels": f"{sum(numbers)}",
        "per image": f"{min(numbers)} to {max(numbers)}, median {median(numbers):g}",
        "images without any": f"{numbers.count(0)}",
        "covered": f"{100 * mean(fact['covered'] for fact in facts):.1f}% of the pixels",
        "median size": f"{100 * median(areas):.2f}% of the image" if areas else "none",
    }

    # Levels, and a histogram of the numbers per image
    totals = [sum(fact["levels"][level] for fact in facts) for level in range(len(LEVEL_NAMES))]
    named = zip(LEVEL_NAMES, totals, strict=True)
    levels = [(name, total, total / max(1, sum(totals))) for name, total in named]
    bins = count_bins(numbers)
    page = render("superpixels.html.j2", values=values, levels=levels, histogram=bins)
    return Section("Superpixels", page)


def list_superpixel_facts(folder: RunFolder) -> list[dict[str, Any]]:
    """List what the journals say of the superpixels of each image."""
    return [
        line["superpixels"]
        for stage in folder.stages
        for line in folder.read_lines(stage).list_with("superpixels")
    ]


def count_bins(numbers: Sequence[int]) -> list[tuple[str, int, float]]:
    """Count numbers in bins of equal width: (range, count, share of the fullest bin).

    >>> count_bins([0, 1, 1])
    [('0', 1, 0.5), ('1', 2, 1.0)]
    """
    # Count
    lowest = min(numbers)
    width = -(-(max(numbers) - lowest + 1) // BINS)
    counts = Counter((number - lowest) // width for number in numbers)

    # Name the bins
    most = max(counts.values())
    bins = []
    for place in range(max(counts) + 1):
        start = lowest + place * width
        label = f"{start}" if width == 1 else f"{start}-{start + width - 1}"
        bins.append((label, counts[place], counts[place] / most))
    return bins


def draw_rows(
    folder: RunFolder, stage: StageNote, chosen: Sequence[tuple[Mapping[str, Any], str]]
) -> list[Row]:
    """Draw a row for each image, leaving out those whose files are gone."""
    rows = []
    for line, remark in chosen:
        overview = gather_overview(folder, line)
        if overview is not None:
            pictures = []
            for caption, picture in overview.draw().items():
                text = describe_picture(caption, overview.masks.get(caption), stage)
                pictures.append(inline_picture(caption, picture, text))
            rows.append(Row(overview.name, remark, pictures))
    return rows


def describe_picture(caption: str, mask: Any, stage: StageNote) -> str:
    """Describe a picture to those who do not see it."""
    if mask is None:
        return caption
    names = name_classes(stage, [value for value in sorted(set(mask.flatten().tolist())) if value])
    return f"{caption}: {', '.join(names) or 'background only'}"


def inline_picture(caption: str, picture: Picture, text: str) -> Inlined:
    """Encode a picture as the address of its own data."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "webp", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = picture.shape[:2]
    return Inlined(caption, f"data:image/webp;base64,{data}", text, width, height)


def list_legend(folder: RunFolder) -> list[tuple[str, Markup]]:
    """List each class with the colour that it has in masks."""
    classes, palette = list_classes(folder), choose_palette(folder)
    colours = ("rgb({},{},{})".format(*palette[index]) for index in range(len(classes)))
    return [(name, Markup(colour)) for name, colour in zip(classes, colours, strict=True)][1:]
