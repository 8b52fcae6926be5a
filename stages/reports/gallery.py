"""The report's gallery: all photos with their masks, or the least certain of very many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from fmawsss.files.images import read_image
from fmawsss.files.journals import Line
from fmawsss.files.png import read_mask
from fmawsss.viz import fit_image, overlay_mask
from stages.pages import Section, render
from stages.reports.image_ranks import UNSEEN, list_known, suspect_labels
from stages.reports.images import Inlined, add_facts, inline_picture
from stages.reports.overviews import choose_palette, fit_mask, name_classes
from stages.reports.report import RunFolder, StageNote

THUMBNAIL = 144  # pixels


class Card(NamedTuple):
    """One photo: the values of the classes in its mask, their names, what to look at, links."""

    name: str
    values: list[int]
    classes: list[str]
    confidence: float
    reasons: list[str]
    links: dict[str, str]
    picture: Inlined | None


def show_gallery(folder: RunFolder, pictures: int, listed: int) -> Section | None:
    """List photos by the newest masks: all of them, or the `listed` least certain.

    pictures: how many of them are shown small; the others have links only.
    """
    masked = [stage for stage in folder.stages if has_masks(folder, stage)]
    if not masked:
        return None

    # Which photos, in the order of their names where these are all
    stage, lines = masked[-1], folder.read_lines(masked[-1])
    images, chosen = lines.values(), list_known(lines.confidences)[:listed]
    found = [(images[number], float(lines.confidences[number])) for number in chosen]
    if len(lines) <= listed:
        found.sort(key=lambda one: one[0]["name"])

    # What there is to see of each
    cards = [
        describe_photo(folder, stage, line, confidence, number < pictures)
        for number, (line, confidence) in enumerate(found)
    ]
    values = sorted({value for card in cards for value in card.values if value})
    page = render(
        "gallery.html.j2",
        cards=cards,
        total=len(lines),
        filters=[(value, name_classes(stage, [value])[0]) for value in values],
        doubtful=sum(1 for card in cards if card.reasons),
        stage=stage.name,
    )
    return Section("Gallery", page)


def has_masks(folder: RunFolder, stage: StageNote) -> bool:
    """Say whether a stage made masks of images, whose regions are known."""
    return bool(folder.read_lines(stage).parted.any())


def describe_photo(
    folder: RunFolder, stage: StageNote, line: Line, confidence: float, pictured: bool
) -> Card:
    """Describe a photo by what all stages know of it."""
    # Its classes, and what is doubtful about its labels
    name = line["name"]
    known = add_facts(line, [folder.read_lines(other) for other in folder.stages])
    *_, regions = line["regions"].values()
    seen = sorted(value for value, share, _ in regions if share >= UNSEEN)
    values = [value for value in seen if value < len(stage.classes)]
    labelled = known.get("labels") is not None
    reasons = suspect_labels(known, stage.classes).reasons if labelled else []

    # Its files
    mask, overlay = (stage.product / f"{name}.png", find_overlay(folder, stage, name))
    files = {"mask": mask, "overlay": overlay, "photo": Path(line.get("image") or "")}
    links = {kind: link_file(folder, path) for kind, path in files.items() if path.is_file()}
    picture = draw_thumbnail(folder, files["photo"], mask, name) if pictured else None
    names = name_classes(stage, [value for value in values if value])
    return Card(name, values, names, confidence, reasons, links, picture)


def find_overlay(folder: RunFolder, stage: StageNote, name: str) -> Path:
    """Say where the mask of an image lies over it, if such pictures are made."""
    below = "overlays" if stage.product.name == "masks" else f"overlays/{stage.product.name}"
    return folder.path / below / f"{name}.png"


def link_file(folder: RunFolder, path: Path) -> str:
    """Write the address of a file as seen from the report."""
    return quote(Path(os.path.relpath(path, folder.path)).as_posix())


def draw_thumbnail(folder: RunFolder, photo: Path, mask: Path, name: str) -> Inlined | None:
    """Draw a small photo with its mask, if both are there."""
    if not (photo.is_file() and mask.is_file()):
        return None
    image = fit_image(read_image(photo), THUMBNAIL)
    laid = overlay_mask(image, fit_mask(read_mask(mask), image), choose_palette(folder), alpha=0.6)
    return inline_picture("", laid, name)
