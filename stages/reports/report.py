"""`report.html`: one file about all in a folder of results, to be opened without a network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fmawsss.files.json_files import RUN_FILE, many_objects, read_json, write_json
from fmawsss.files.products import read_record
from fmawsss.files.writing import write_bytes
from stages.pages import Section, render_page
from stages.reports.lines import ReportLines, read_report_lines
from stages.scores import write_percent

logger = logging.getLogger(__name__)

STAGES_FILE = "stages.json"


@dataclass(frozen=True)
class StageNote:
    """What a stage left: its product, for which split, and what it was made from.

    `classes` begin with the background; `sources` are folders, and the checkpoint; `photos` is the
    folder of images, of a data set of photos.
    """

    name: str
    product: Path
    split: str
    images: int
    classes: tuple[str, ...]
    sources: Mapping[str, Path] = field(
        default_factory=dict
    )  # superpixels, seeds, cams, checkpoint
    photos: Path | None = None


class RunFolder:
    """What is known of a folder of results; everything is read once, when a section asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journals: dict[Path, ReportLines] = {}

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """Records of the runs that made something here, the newest last, each with its `folder`."""
        files = [*self.path.glob(RUN_FILE), *self.path.glob(f"runs/*/{RUN_FILE}")]
        runs = [{**read_json(file), "folder": file.parent} for file in files]
        return sorted((run for run in runs if not run["job"]), key=lambda run: run["started"])

    @cached_property
    def stages(self) -> list[StageNote]:
        """The stages that left a product, in the order of their making; splits share a product."""
        path = self.path / STAGES_FILE
        found = read_json(path) if path.is_file() else {}
        return [self._join_splits(name, splits) for name, splits in found.items()]

    def _join_splits(self, name: str, splits: Mapping[str, Any]) -> StageNote:
        newest = list(splits.values())[-1]
        images = sum(entry["images"] for entry in splits.values())
        sources = {kind: self.path / place for kind, place in newest.get("sources", {}).items()}
        product = self.path / newest["product"]
        return StageNote(
            name, product, ", ".join(splits), images, tuple(newest["classes"]), sources
        )

    @cached_property
    def lineage(self) -> list[StageNote]:
        """The stages, each after those that it was made from, in this folder or in others."""
        seen: set[Path] = set()
        return [made for stage in self.stages for made in trace_sources(stage, seen)]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Scores by stage, split and kind of mask."""
        path = self.path / "scores.json"
        return dict(read_json(path)) if path.is_file() else {}

    def read_lines(self, stage: StageNote) -> ReportLines:
        """Read the journals of a stage's product: one entry per image, the last one counts."""
        if stage.product not in self._journals:
            self._journals[stage.product] = read_report_lines(stage.product, len(stage.classes))
        return self._journals[stage.product]


def note_stage(work: Path, stage: StageNote) -> None:
    """Enter a stage's product in `stages.json`, beside those of the other stages."""
    # What there is to note
    sources = {kind: place_product(work, path) for kind, path in stage.sources.items()}
    entry = {
        "product": place_product(work, stage.product),
        "images": stage.images,
        "classes": list(stage.classes),
        "sources": sources,
    }
    if stage.photos is not None:
        entry["photos"] = os.path.relpath(stage.photos.resolve(), work.resolve())

    # A note that would not change is left alone
    path = work / STAGES_FILE
    known = read_json(path) if path.is_file() else {}
    if known.get(stage.name, {}).get(stage.split) != entry:
        known.setdefault(stage.name, {})[stage.split] = entry
        write_json(path, known)


def place_product(work: Path, path: Path) -> str:
    """Write where a product lies: within the folder of results, which may move, or anywhere."""
    return str(path.relative_to(work) if path.is_relative_to(work) else path.absolute())


def find_sources(inputs: Mapping[str, Any], checkpoint: Path | None) -> dict[str, Path]:
    """Find the products that a stage was made from, and a checkpoint of another run.

    Regions of a memory stand for the seeds beside which they were kept.
    """
    named = {kind: inputs.get(kind) for kind in ("superpixels", "seeds", "cams")}
    regions = inputs.get("regions")
    if regions is not None and (record := read_record(regions)) is not None:
        named["regions"] = (regions / record["settings"]["of"]).resolve()
    named["checkpoint"] = checkpoint
    paths = {kind: Path(path) for kind, path in named.items() if path is not None}
    return {kind: path for kind, path in paths.items() if path.exists()}


def trace_sources(stage: StageNote, seen: set[Path]) -> list[StageNote]:
    """List a stage after all that it was made from; nothing that was `seen` before."""
    if stage.product.absolute() in seen:
        return []
    seen.add(stage.product.absolute())
    before = [
        made for path in stage.sources.values() for made in trace_sources(find_maker(path), seen)
    ]
    return [*before, stage]


def find_maker(product: Path) -> StageNote:
    """Find the stage that made a product in its folder of results; a nameless one elsewhere."""
    folders = product.absolute().parents[:2]  # `seeds/coarse` lies two levels down
    stages = [stage for folder in folders for stage in RunFolder(folder).stages]
    made = [stage for stage in stages if stage.product.absolute() == product.absolute()]
    return made[0] if made else StageNote(product.name, product, "", 0, ())


@many_objects()
def write_report(
    run: str | Path, sections: Mapping[str, Callable[[RunFolder], Section | None]]
) -> None:
    """Write `report.html` into a folder of results, from the sections that have something to say.

    Raises:
        FileNotFoundError: when the folder holds no results.
    """
    # ask every section what it has to say
    folder = RunFolder(Path(run))
    written = [section for make in sections.values() if (section := make(folder)) is not None]
    if not written:
        raise FileNotFoundError(
            f"{folder.path} holds no results to report on (no {RUN_FILE}, no scores.json): name "
            "the folder of a run with run=DIR, or make results with `python train.py`"
        )

    # put them on one page
    page = render_page(
        "report.html.j2",
        "report",
        name_report(folder),
        written,
        run=folder.runs[-1] if folder.runs else {},
        headline=list_headline(folder),
        now=datetime.now().astimezone(),
    )
    path = folder.path / "report.html"
    write_bytes(path, page.encode())
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


def name_report(folder: RunFolder) -> str:
    """Name a report after data set and task of the newest run, or after the folder."""
    if not folder.runs:
        return folder.path.name
    return f"{folder.runs[-1]['dataset']}: {folder.runs[-1]['stage']}"


def list_headline(folder: RunFolder) -> list[tuple[str, str]]:
    """List (stage, split and kind, mIoU in percent) of the last kind of mask of each."""
    return [
        (f"{stage}, {split}: {list(kinds)[-1]}", write_percent(list(kinds.values())[-1]["miou"]))
        for stage, splits in folder.scores.items()
        for split, kinds in splits.items()
        if kinds
    ]
