"""The report on a memory of regions: superpixels, and the look-alikes that explain them."""

from __future__ import annotations

import heapq
from pathlib import Path

from fmawsss.files.images import read_image
from fmawsss.files.storage import read_superpixels
from fmawsss.viz import cut_out, fit_image
from stages.pages import Section, render
from stages.reports.image_ranks import Line
from stages.reports.images import Inlined, Row, inline_picture
from stages.reports.overviews import find_superpixels, name_classes
from stages.reports.report import RunFolder, StageNote

SIDE = 112  # of a picture, in pixels


def show_neighbours(folder: RunFolder, images: int) -> Section | None:
    """Show, of the `images` that a memory changed most, a superpixel and what it was told by."""
    panels = {}
    for stage in folder.stages:
        lines = folder.read_lines(stage).list_with("neighbours")
        told = heapq.nsmallest(images, lines, key=rank)
        rows = [row for line in told if (row := draw_neighbours(folder, stage, line))]
        if rows:
            panels[f"{stage.name}, {stage.split}"] = rows
    return Section("Memory", render("neighbours.html.j2", panels=panels)) if panels else None


def rank(line: Line) -> tuple[bool, float]:
    """Say how much a memory changed an image, which agrees the less; the lowest first."""
    return line["agreement"] is None, line["agreement"] or 0.0


def draw_neighbours(folder: RunFolder, stage: StageNote, line: Line) -> Row | None:
    """Draw a superpixel of an image and its neighbours; None when a file of its own is gone."""
    note = line["neighbours"]
    before, after = name_classes(stage, [note["before"], note["after"]])
    own = draw_region(folder, line, note["superpixel"], f"{line['name']}: {before}, now {after}")
    if own is None:
        return None
    others = [
        draw_region(folder, find_line(folder, name), number, f"{cosine:.2f} {name}: {told}")
        for name, number, cosine, value in note["found"]
        for told in name_classes(stage, [value])
    ]
    return Row(line["name"], f"{before}, now {after}", [own, *filter(None, others)])


def find_line(folder: RunFolder, name: str) -> Line | None:
    """Find what the last stage that knows an image says of it."""
    known = (folder.read_lines(stage).get(name) for stage in reversed(folder.stages))
    return next(filter(None, known), None)


def draw_region(folder: RunFolder, line: Line | None, number: int, caption: str) -> Inlined | None:
    """Draw a superpixel in what surrounds it; None when a file is gone."""
    path = Path((line or {}).get("image") or "")
    file = find_superpixels(folder, line["name"]) if line else None
    if file is None or not path.is_file():
        return None
    mask = read_superpixels(file).mask(number).numpy()
    picture = cut_out(read_image(path), mask)
    return inline_picture(caption, fit_image(picture, SIDE), caption)
