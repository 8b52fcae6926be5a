"""The report's training curves: one small SVG per group of metrics, from the CSV logs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from stages.pages import Section, render
from stages.reports.report import RunFolder

WIDTH, HEIGHT, POINTS = 300, 120, 300
GROUPS = {  # the first word that a metric starts with names its plot
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
        found = [
            plot
            for start, title in GROUPS.items()
            if (plot := draw_plot(title, choose_curves(rows, start)))
        ]
        if found:
            plots[stage] = found
    return (
        Section("Training", render("curves.html.j2", plots=plots, width=WIDTH, height=HEIGHT))
        if plots
        else None
    )


def read_trainings(folder: RunFolder) -> dict[str, list[dict[str, str]]]:
    """Read the CSV logs of each stage; what an interrupted training logged before the newest log
    begins is kept.
    """
    trainings: dict[str, list[dict[str, str]]] = {}
    for run in folder.runs:
        for path in sorted(
            run["folder"].glob("*/metrics.csv"), key=lambda path: path.stat().st_mtime
        ):
            rows = read_rows(path)
            if any(row.get("train/loss") for row in rows):
                first = float(rows[0]["step"])
                before = [
                    row for row in trainings.get(path.parent.name, []) if float(row["step"]) < first
                ]
                trainings[path.parent.name] = before + rows
    return trainings


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV log that carry a step."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step")]


def choose_curves(rows: Sequence[Mapping[str, str]], start: str) -> dict[str, Curve]:
    """Collect the metrics whose names begin with `start`, as (step, value)."""
    names = dict.fromkeys(name for row in rows for name in row if name and name.startswith(start))
    curves = {
        name: [
            (float(row["step"]), float(row[name]))
            for row in rows
            if row.get(name) not in (None, "", "nan")
        ]
        for name in names
    }
    return {name.split("/", 1)[1]: curve for name, curve in curves.items() if curve}


def draw_plot(title: str, curves: Mapping[str, Curve]) -> Plot | None:
    """Scale curves to the picture, the y axis from 0, or from below it, to the largest value; None
    without a curve.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return None
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    across, up = WIDTH / ((last - first) or 1), HEIGHT / ((high - low) or 1)

    def place(point: tuple[float, float]) -> str:
        return f"{(point[0] - first) * across:.1f},{HEIGHT - (point[1] - low) * up:.1f}"

    paths = [
        (name, "M" + "L".join(place(point) for point in thin_curve(curve)))
        for name, curve in curves.items()
    ]
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
