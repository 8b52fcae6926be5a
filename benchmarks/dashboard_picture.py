"""Draw what a dashboard shows of a run: `python -m benchmarks.dashboard_picture`.

The run was logged offline (`python train.py logger=wandb`). Its files are read back, and drawn in
the sections and panels of the view that `python infer.py task=dashboard` saves, but for the mosaics
of `pictures`; nothing else of the run is looked at.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from PIL import Image

from benchmarks.wandb_file import (
    parse_records,
    read_history,
    read_rows,
    read_run,
    read_summary,
    read_table,
)
from fmawsss.files.images import read_image
from fmawsss.files.writing import write_bytes
from fmawsss.viz import choose_colours, overlay_mask
from stages.jobs.dashboard import CURVES, PICTURES, SCORES, STEP

ROOT = Path(__file__).parents[1]
COLOURS = ("#3b6fd4", "#d1495b", "#2a9d8f", "#8e5bb5", "#e09f3e", "#5c677d", "#9c6644", "#118ab2")
PAPER, CARD, INK = "#f3f4f6", "white", "#33363d"
STYLES = ("-", "--", ":")
MOST = 6  # pictures of a row
SHOWN = ("fine_memory", "network")  # runs whose panels are drawn
WIDTH, DPI = 11.0, 110  # inches, pixels per inch


Shown: TypeAlias = tuple[str, np.ndarray]  # a caption, and a picture


@dataclass(frozen=True)
class LoggedRun:
    """What one stage logged: its name, history, summary, and the folder of its media."""

    name: str
    colour: str
    records: Sequence[Any]
    folder: Path

    def read_curve(self, key: str) -> tuple[list[float], list[float]]:
        """Return the steps and values of a scalar."""
        rows = [row for row in read_rows(list(self.records)) if key in row and STEP in row]
        return [row[STEP] for row in rows], [row[key] for row in rows]

    def read_panels(self, key: str) -> list[list[Shown]]:
        """Return the images of a media panel, a row for each: with each of its masks laid over."""
        history = read_history(list(self.records))
        captions = history.get(f"{key}/captions", [[]])[-1]
        masks = history.get(f"{key}/all_masks", [[None] * len(captions)])[-1]
        rows = []
        for number, caption in enumerate(captions):
            image = read_image(self.folder / history[f"{key}/filenames"][-1][number])
            known = {title: found["path"] for title, found in (masks[number] or {}).items()}
            laid = [(title, lay_mask(image, self.folder / known[title])) for title in sorted(known)]
            if laid:
                rows.append([(caption, image), *laid])
        return rows

    def read_tabled(self, key: str) -> list[Shown]:
        """Return the rows of a table of images: name and remark, image with a mask."""
        try:
            table, files = read_table(list(self.records), key)
        except KeyError:
            return []
        found = []
        for name, because, _, shown in table["data"]:
            image = read_image(files[shown["path"]])
            drawn = min(sorted(shown["masks"]), key="truth".__eq__)
            mask = files[shown["masks"][drawn]["path"]]
            found.append((f"{name}, {because}", lay_mask(image, mask)))
        return found


def lay_mask(image: np.ndarray, path: Path) -> np.ndarray:
    """Lay a mask over an image, as the viewer does."""
    with Image.open(path) as picture:
        mask = np.array(picture)
    return overlay_mask(image, mask, choose_colours(int(mask[mask < 255].max(initial=1))), 0.6)


def main(words: Sequence[str] | None = None) -> None:
    """Draw the picture of a run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("outputs/shapes"), help="of the run")
    parser.add_argument("--file", type=Path, default=ROOT / "docs" / "dashboard.webp")
    options = parser.parse_args(words)
    runs = read_runs(options.work)
    if not runs:
        parser.error(f"no run was logged below {options.work}: python train.py logger=wandb")
    draw(runs, options.file)
    print(f"{len(runs)} runs in {options.file}")  # noqa: T201


def read_runs(work: Path) -> list[LoggedRun]:
    """Read the last run of each stage below a folder of results; parts of one are joined."""
    runs: dict[str, LoggedRun] = {}
    ids: dict[str, str] = {}
    for path in sorted(work.glob("runs/*/wandb/offline-run-*/run-*.wandb")):
        records = parse_records(path)
        said = read_run(records)
        name, begun = said.job_type, runs.get(said.job_type)
        colour = COLOURS[len(runs) % len(COLOURS)] if begun is None else begun.colour
        before = begun.records if begun is not None and ids[name] == said.run_id else []
        ids[name] = said.run_id
        runs[name] = LoggedRun(name, colour, [*before, *records], path.parent / "files")
    return list(runs.values())


def draw(runs: Sequence[LoggedRun], file: Path) -> None:
    """Draw the sections of the view, one below the other, and write the picture."""
    rows = list(list_rows(runs))
    heights = (0.35, 2.4, 3.8, 0.4 + 1.85 * len(rows))  # inches
    size = (WIDTH, sum(heights))
    figure = Figure(figsize=size, facecolor=PAPER, dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.1)
    head, scores, learning, pictures = figure.subfigures(4, 1, height_ratios=heights)
    draw_head(head, runs)
    draw_scores(scores, runs)
    draw_learning(learning, runs)
    draw_pictures(pictures, rows)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=PAPER)
    packed = io.BytesIO()
    Image.open(stream).convert("RGB").save(packed, "webp", quality=80, method=6)
    write_bytes(file, packed.getvalue())


def draw_head(part: SubFigure, runs: Sequence[LoggedRun]) -> None:
    """Name the runs, each in its colour."""
    part.set_facecolor(PAPER)
    for number, run in enumerate(runs):
        place = 0.02 + number * 0.96 / len(runs)
        part.text(place, 0.4, f"● {run.name}", color=run.colour, fontsize=10, va="center")


def open_section(part: SubFigure, title: str, rows: int, columns: int) -> list[Axes]:
    """Open a section of the view with empty panels."""
    part.set_facecolor(PAPER)
    part.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK, weight="bold")
    return list(part.subplots(rows, columns, squeeze=False).flat)


def title_panel(panel: Axes, title: str) -> None:
    """Make a panel a card with a title."""
    panel.set_facecolor(CARD)
    panel.set_title(title, fontsize=9, color=INK)
    panel.tick_params(labelsize=7, colors=INK, length=2)
    for side in panel.spines.values():
        side.set_color("#d9dce1")


def draw_scores(part: SubFigure, runs: Sequence[LoggedRun]) -> None:
    """Draw the final scores, a bar for each run and kind of mask that it has."""
    panels = open_section(part, "final scores", 1, len(SCORES))
    for panel, (title, keys) in zip(panels, SCORES.items(), strict=True):
        title_panel(panel, f"mIoU of {title}")
        bars = [
            (f"{run.name}, {key.split('/')[2]}", 100 * summary[key], run.colour)
            for run in runs
            for summary in [read_summary(list(run.records))]
            for key in keys
            if key in summary
        ]
        names, values, colours = zip(*bars or [("no run", 0, INK)], strict=True)
        panel.barh(range(len(names)), values, color=colours, height=0.7)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(max(len(names), 3) - 0.4, -0.6)
        panel.set_xlim(0, 100)
        for place, value in enumerate(values):
            panel.text(value + 1, place, f"{value:.1f}", fontsize=7, va="center", color=INK)


def draw_learning(part: SubFigure, runs: Sequence[LoggedRun]) -> None:
    """Draw the curves of trainings: a line for each run, and a style for each scalar."""
    panels = open_section(part, "learning", 2, 3)
    for panel, (title, keys) in zip(panels, CURVES.items(), strict=True):
        title_panel(panel, title)
        for run in runs:
            for style, key in zip(STYLES, keys, strict=False):
                steps, values = run.read_curve(key)
                panel.plot(steps, values, style, color=run.colour, linewidth=1.4)
        if len(keys) > 1:
            lines = [Line2D([], [], linestyle=style, color=INK) for style in STYLES]
            named = [key.rpartition("/")[2] for key in keys]
            panel.legend(lines, named, fontsize=6, frameon=False)
        panel.grid(alpha=0.25)
        panel.margins(x=0.02)


def draw_pictures(part: SubFigure, rows: Sequence[tuple[str, list[Shown]]]) -> None:
    """Draw rows of pictures, each with its title at the side."""
    panels = open_section(part, "pictures", len(rows), MOST)
    for panel in panels:
        panel.set_axis_off()
    for number, (title, shown) in enumerate(rows):
        for place, (caption, image) in enumerate(shown[:MOST]):
            panel = panels[number * MOST + place]
            panel.imshow(image)
            panel.set_title(caption, fontsize=7, color=INK)
        panels[number * MOST].text(
            -0.12, 0.5, title, rotation=90, fontsize=8, color=INK, va="center", ha="center",
            transform=panels[number * MOST].transAxes,
        )  # fmt: skip


def list_rows(runs: Sequence[LoggedRun]) -> Iterator[tuple[str, list[Shown]]]:
    """List images with their masks of some runs, and the tables of images of the last one."""
    keys = [key for held in PICTURES.values() for key in held]
    for run in runs:
        if run.name in SHOWN:
            yield f"panels, {run.name}", list(chain(*run.read_panels("panels")))
    tabled = [
        (f"{key.rpartition('/')[2].replace('_', ' ')}\n{caption}", image)
        for key in keys
        for caption, image in runs[-1].read_tabled(key)[: MOST // 2]
    ]
    if tabled:
        yield f"images, {runs[-1].name}", tabled


if __name__ == "__main__":
    main()
