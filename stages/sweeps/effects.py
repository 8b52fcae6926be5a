"""What the jobs of a sweep say about its settings: means by value, and shares of variance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev

from stages.sweeps.jobs import FINISHED, Job, find_varied, is_number

SEED = "seed"  # a repetition, not a choice
RANGE = " … "  # between the ends of one
LEVELS = 5  # a setting with more numbers is cut into so many ranges


@dataclass(frozen=True)
class Effect:
    """One value of a setting, or a range of values, and what the jobs that have it gave."""

    level: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Average over the jobs."""
        return fmean(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation; NaN for one job."""
        return stdev(self.values) if len(self.values) > 1 else math.nan


def keep_measured(jobs: Sequence[Job]) -> list[Job]:
    """Keep the finished jobs that have a value."""
    return [
        job
        for job in jobs
        if job.status == FINISHED and job.value is not None and math.isfinite(job.value)
    ]


def list_levels(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """List the level of every job, for each setting that varies: its value, or a range of them."""
    return {key: _cut_range(jobs, key, values) for key, values in find_varied(jobs).items()}


def find_effects(jobs: Sequence[Job]) -> dict[str, list[Effect]]:
    """Find the main effect of each setting that varies, those that explain most first.

    A seed is no setting.
    """
    measured = keep_measured(jobs)
    levels = {key: own for key, own in list_levels(measured).items() if key != SEED}
    effects = {key: _group_values(own, measured) for key, own in levels.items()}
    return dict(sorted(effects.items(), key=lambda item: -share_variance(item[1])))


def share_variance(effects: Sequence[Effect]) -> float:
    """Compute the part (0…1) of the variance of all jobs that lies between levels of a setting.

    Ours beside Optuna's importance, because a grid leaves no study.
    """
    values = [value for effect in effects for value in effect.values]
    total, centre = pstdev(values) ** 2 * len(values), fmean(values)
    between = sum(len(effect.values) * (effect.mean - centre) ** 2 for effect in effects)
    return between / total if total > 0 else 0.0


def find_interaction(jobs: Sequence[Job], row: str, column: str) -> dict[tuple[str, str], float]:
    """Average the jobs for each pair of levels of two settings."""
    measured = keep_measured(jobs)
    levels = list_levels(measured)
    cells: dict[tuple[str, str], list[float]] = {}
    for job, *place in zip(measured, levels[row], levels[column], strict=True):
        cells.setdefault((place[0], place[1]), []).append(_value(job))
    return {place: fmean(values) for place, values in cells.items()}


def group_seeds(jobs: Sequence[Job]) -> dict[tuple[str, ...], list[Job]]:
    """Group the jobs that differ in nothing but their seed."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        rest = tuple(override for override in job.overrides if not override.startswith(f"{SEED}="))
        groups.setdefault(rest, []).append(job)
    return groups


def find_best(jobs: Sequence[Job]) -> tuple[tuple[str, ...], Effect] | None:
    """Find the overrides with the highest mean over seeds; a seed is never chosen."""
    groups = group_seeds(keep_measured(jobs))
    effects = {rest: Effect("", tuple(map(_value, own))) for rest, own in groups.items()}
    return max(effects.items(), key=lambda item: item[1].mean, default=None)


def average_scores(
    jobs: Sequence[Job], scores: Mapping[int, Mapping[str, float]]
) -> dict[str, Effect]:
    """Average every score that all of the jobs have."""
    tables = [scores[job.number] for job in jobs]
    names = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    return {name: Effect(name, tuple(table[name] for table in tables)) for name in names}


def _value(job: Job) -> float:
    assert job.value is not None
    return job.value


def _group_values(levels: Sequence[str], jobs: Sequence[Job]) -> list[Effect]:
    found: dict[str, list[float]] = {}
    for level, job in zip(levels, jobs, strict=True):
        found.setdefault(level, []).append(_value(job))
    return [Effect(level, tuple(found[level])) for level in sort_levels(found)]


def sort_levels(levels: Iterable[str]) -> list[str]:
    """Sort levels by their first number, where all have one; others stay in their order."""
    levels = list(dict.fromkeys(levels))
    first = {level: level.split(RANGE)[0] for level in levels}
    if not all(map(is_number, first.values())):
        return levels
    return sorted(levels, key=lambda level: float(first[level]))


def _cut_range(jobs: Sequence[Job], key: str, values: Sequence[str]) -> list[str]:
    """Give each job its value, or where there are more than `LEVELS` numbers a range of them."""
    own = [job.settings.get(key, "") for job in jobs]
    if len(values) <= LEVELS or not all(map(is_number, values)):
        return own

    # ranges of equal weight
    ordered = sorted(own, key=float)
    size = math.ceil(len(ordered) / LEVELS)
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    names: dict[str, str] = {}
    for part in parts:
        name = f"{float(part[0]):.3g}{RANGE}{float(part[-1]):.3g}"
        names.update(dict.fromkeys(part, name))
    return [names[value] for value in own]


def shorten_key(key: str) -> str:
    """Shorten `prompts.place_name._target_` to what tells it apart."""
    return ".".join(key.removesuffix("._target_").split(".")[-2:])
