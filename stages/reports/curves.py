"""The report's training curves: one small SVG per group of metrics, from the CSV logs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from stages.pages import Section, render
from stages.reports.report import RunFolder

WIDTH, HEIGHT = 300, 120  # of a plot
POINTS = 300  # of a curve, at most
PLOTS = {  # the first word that a metric starts with names its plot
    "train/loss": "loss",
    "train/lr": "learning rate",
    "train/gradient_norm": "gradient norm",
    "train/images_per_second": "images per second",
    "train/memory_gb": "memory, GB",
    "val/miou": "validation mIoU",
}
Curve = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Plot:
    """Curves of one kind with what is written at the axes; paths are in units of the picture."""

    title: str
    paths: list[tuple[str, str]]
    low: str
    high: str
    first: str
    last: str
    final: str


def show_curves(folder: RunFolder) -> Section | None:
    """Draw the curves of the last training of each stage."""
    plots = {}
    for stage, rows in read_trainings(folder).items():
        drawn = [draw_plot(title, choose_curves(rows, start)) for start, title in PLOTS.items()]
        found = [plot for plot in drawn if plot is not None]
        if found:
            plots[stage] = found
    if not plots:
        return None
    page = render("curves.html.j2", plots=plots, width=WIDTH, height=HEIGHT)
    return Section("Training", page)


def read_trainings(folder: RunFolder) -> dict[str, list[dict[str, str]]]:
    """Read the CSV logs of each stage.

    What an interrupted training logged before the newest log begins is kept.
    """
    trainings: dict[str, list[dict[str, str]]] = {}
    for run in folder.runs:
        logs = run["folder"].glob("*/metrics.csv")
        for path in sorted(logs, key=lambda path: path.stat().st_mtime):
            rows, stage = read_rows(path), path.parent.name
            if any(row.get("train/loss") for row in rows):
                first = float(rows[0]["step"])
                before = [r for r in trainings.get(stage, []) if float(r["step"]) < first]
                trainings[stage] = before + rows
    return trainings


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV log that carry a step."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step")]


def choose_curves(rows: Sequence[Mapping[str, str]], start: str) -> dict[str, Curve]:
    """Collect the metrics whose names begin with `start`, as (step, value)."""
    names = dict.fromkeys(name for row in rows for name in row if name and name.startswith(start))
    curves = {}
    for name in names:
        known = [row for row in rows if row.get(name) not in (None, "", "nan")]
        if known:
            points = [(float(row["step"]), float(row[name])) for row in known]
            curves[name.split("/", 1)[1]] = points
    return curves


def draw_plot(title: str, curves: Mapping[str, Curve]) -> Plot | None:
    """Scale curves to the picture; None without a curve.

    The y axis goes from 0, or from the smallest value below it, to the largest value.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return None

    # Scale
    steps, values = [step for step, _ in points], [value for _, value in points]
    first, last = min(steps), max(steps)
    low, high = min(0.0, *values), max(values)
    across, up = WIDTH / ((last - first) or 1), HEIGHT / ((high - low) or 1)

    def place(point: tuple[float, float]) -> str:
        return f"{(point[0] - first) * across:.1f},{HEIGHT - (point[1] - low) * up:.1f}"

    # Draw
    thinned = {name: thin_curve(curve) for name, curve in curves.items()}
    paths = [(name, "M" + "L".join(map(place, curve))) for name, curve in thinned.items()]
    final = ", ".join(f"{name} {curve[-1][1]:.4g}" for name, curve in curves.items())
    return Plot(title, paths, f"{low:.2g}", f"{high:.2g}", f"{first:g}", f"{last:g}", final)


def thin_curve(curve: Curve) -> Curve:
    """Average neighbouring points until few enough are left to draw.

    >>> thin_curve([(0, 1.0), (1, 3.0)])
    [(0, 1.0), (1, 3.0)]
    """
    if len(curve) <= POINTS:
        return curve
    edges = [index * len(curve) // POINTS for index in range(POINTS + 1)]
    return [
        tuple(sum(column) / (end - begin) for column in zip(*curve[begin:end], strict=True))  # type: ignore[misc]
        for begin, end in pairwise(edges)
    ]
