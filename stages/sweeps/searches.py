"""What a sweep tries next, asked for in batches; here: every combination of the values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

STUDY_FILE = "study.jsonl"  # of Optuna, in the folder of a sweep


@dataclass(frozen=True)
class Choices:
    """The values of a setting, as typed on the command line."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A range of numbers, ends included."""

    low: float
    high: float
    log: bool
    whole: bool  # integers only


Axis: TypeAlias = Choices | Interval
Point: TypeAlias = dict[str, str]  # setting → value, as typed on the command line


class Search(Protocol):
    """What is asked for batches of points until there are none, and told what each point gave."""

    def open(self, axes: Mapping[str, Axis], folder: Path) -> None:
        """Start the search of a sweep folder, or go on with it."""

    def ask(self) -> list[Point]:
        """Propose the next points."""

    def tell(self, values: Sequence[float | None]) -> None:
        """Learn what the points just asked for gave, None for a failure."""


class GridSearch:
    """Every combination of the values, in one batch.

    Ours because Hydra's own sweeper runs finished jobs again, and Optuna is an extra.
    """

    def __init__(self) -> None:
        self.points: list[Point] = []

    def open(self, axes: Mapping[str, Axis], folder: Path) -> None:
        """Combine the values; raises ValueError for an interval, which has no list of values."""
        choices = [[(key, value) for value in list_values(key, axis)] for key, axis in axes.items()]
        self.points = [dict(point) for point in itertools.product(*choices)]

    def ask(self) -> list[Point]:
        """Propose all points, once."""
        points, self.points = self.points, []
        return points

    def tell(self, values: Sequence[float | None]) -> None:
        """Learn nothing."""


def list_values(key: str, axis: Axis) -> tuple[str, ...]:
    """List the values of an axis."""
    if isinstance(axis, Interval):
        raise ValueError(
            f"{key}: a grid has no end in an interval; list values (1,2,4), or use "
            "sweep=prompts_optuna"
        )
    return axis.values
