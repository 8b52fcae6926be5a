"""The best settings of a sweep as an experiment that one command runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fmawsss.files.writing import write_bytes
from stages.sweeps.effects import find_best
from stages.sweeps.jobs import Job


def write_best(folder: Path, jobs: Sequence[Job], sweep: Mapping[str, Any]) -> str | None:
    """Write the best settings as `experiment/best.yaml`; return the command that runs them."""
    best = find_best(jobs)
    if best is None:
        return None
    chosen = dict(override.split("=", 1) for override in best[0])
    command = f"{sweep['program']} --config-dir {folder} experiment=best paths.work={folder}/best"
    head = f"# @package _global_\n# The best settings of {sweep['title']}: {command}\n"
    experiment = yaml.safe_dump(build_experiment(chosen, sweep["groups"]), sort_keys=False)
    write_bytes(folder / "experiment/best.yaml", (head + experiment).encode())
    return command


def build_experiment(chosen: Mapping[str, str], groups: Sequence[str]) -> dict[str, Any]:
    """Turn overrides into a config: `groups` go to its defaults list, all else to its keys."""
    defaults: list[Any] = [chosen["experiment"]] if "experiment" in chosen else []
    for key, value in chosen.items():
        if key in groups and key not in ("experiment", "sweep"):
            defaults.append({f"override /{key}": yaml.safe_load(value)})
    values = nest_settings({key: value for key, value in chosen.items() if key not in groups})
    return {"defaults": defaults, **values} if defaults else values


def nest_settings(values: Mapping[str, str]) -> dict[str, Any]:
    """Turn dotted keys into nested ones, values as YAML reads them."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.lstrip("+").split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[last] = read_number(value)
    return nested


def read_number(text: str) -> Any:
    """Read a value as YAML, and 1e-4 as the number that it is to Hydra."""
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
