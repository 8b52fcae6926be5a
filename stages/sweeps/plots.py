"""Draw the main effect of each setting, and how each two of them act together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.sweeps.effects import (
    Effect,
    find_interaction,
    share_variance,
    shorten_key,
    sort_levels,
)
from stages.sweeps.jobs import Job

MOST = 5  # settings in the plot of interactions, those that explain most
COLOUR = "#2a6f97"


def draw_effects(effects: Mapping[str, Sequence[Effect]], label: str) -> bytes:
    """Draw a panel per setting as PNG: every job as a dot, the mean of each value as a line."""
    figure, panels, columns = _lay_out(len(effects), 3.2, sharey=True)
    for panel, (key, levels) in zip(panels, effects.items(), strict=False):
        _draw_effect(panel, levels)
        panel.set_title(
            f"{shorten_key(key)}  ({100 * share_variance(levels):.0f}% of variance)", fontsize=9
        )
    for panel in panels[::columns]:
        panel.set_ylabel(f"{label}, %")
    return _encode(figure)


def draw_interactions(jobs: Sequence[Job], keys: Sequence[str], label: str) -> bytes:
    """Draw the mean for each pair of values of each two settings as PNG."""
    pairs = list(itertools.combinations(keys[:MOST], 2))
    figure, panels, _ = _lay_out(len(pairs), 3.4, sharey=False)
    for panel, (row, column) in zip(panels, pairs, strict=False):
        _draw_table(panel, find_interaction(jobs, row, column))
        panel.set_ylabel(shorten_key(row), fontsize=9)
        panel.set_xlabel(shorten_key(column), fontsize=9)
    figure.suptitle(f"mean {label}, %", fontsize=10)
    return _encode(figure)


def shorten_level(level: str) -> str:
    """Shorten the path of a function to its name."""
    if level.replace(".", "", 1).isdigit() or " " in level:
        return level
    return level.rsplit(".", 1)[-1] or "default"


def _lay_out(count: int, height: float, sharey: bool) -> tuple[Figure, list[Axes], int]:
    """Lay out panels in up to three columns; return the figure, its panels, its columns."""
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.2 * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels, columns


def _draw_effect(panel: Axes, levels: Sequence[Effect]) -> None:
    for place, effect in enumerate(levels):
        percent = [100 * value for value in effect.values]
        panel.plot([place] * len(percent), percent, "o", color="0.6", markersize=3, alpha=0.6)
    places, names = range(len(levels)), [shorten_level(effect.level) for effect in levels]
    panel.plot(places, [100 * effect.mean for effect in levels], "o-", color=COLOUR)
    panel.set_xticks(places, names, fontsize=8)
    panel.set_xlim(-0.5, len(levels) - 0.5)
    panel.grid(axis="y", alpha=0.3)


def _draw_table(panel: Axes, cells: Mapping[tuple[str, str], float]) -> None:
    # arrange the cells
    rows, columns = (sort_levels(place[side] for place in cells) for side in (0, 1))
    places = itertools.product(rows, columns)
    values = [cells.get(place, math.nan) for place in places]
    table = np.array(values).reshape(len(rows), len(columns))

    # colour them, and write their values on them
    panel.imshow(table, cmap="viridis", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), value in np.ndenumerate(table):
        if not math.isnan(value):
            text, colour = f"{100 * value:.1f}", "white" if value < middle else "black"
            panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)

    # name the levels
    panel.set_yticks(range(len(rows)), map(shorten_level, rows), fontsize=8)
    panel.set_xticks(range(len(columns)), map(shorten_level, columns), fontsize=8)


def _encode(figure: Figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
