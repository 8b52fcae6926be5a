"""The best settings of a sweep as an experiment that one command runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmawsss.files.writing import write_bytes
from stages.sweeps.effects import find_best
from stages.sweeps.jobs import Job
from stages.typed import read_value, write_setting, write_yaml


def write_best(folder: Path, jobs: Sequence[Job], sweep: Mapping[str, Any]) -> str | None:
    """Write the best settings as `experiment/best.yaml`; return the command that runs them."""
    best = find_best(jobs)
    if best is None:
        return None
    chosen = dict(override.split("=", 1) for override in best[0])
    work = write_setting("paths.work", f"{folder}/best")
    words = ["--config-dir", str(folder), "experiment=best", work]
    command = shlex.join([*sweep["program"].split(), *words])
    head = f"# @package _global_\n# The best settings of {sweep['title']}: {command}\n"
    experiment = write_yaml(build_experiment(chosen, sweep["groups"]))
    write_bytes(folder / "experiment/best.yaml", (head + experiment).encode())
    return command


def build_experiment(chosen: Mapping[str, str], groups: Sequence[str]) -> dict[str, Any]:
    """Turn overrides into a config: `groups` go to its defaults list, all else to its keys."""
    defaults: list[Any] = [chosen["experiment"]] if "experiment" in chosen else []
    for key, value in chosen.items():
        if key in groups and key not in ("experiment", "sweep"):
            defaults.append({f"override /{key}": read_value(value)})
    values = nest_settings({key: value for key, value in chosen.items() if key not in groups})
    return {"defaults": defaults, **values} if defaults else values


def nest_settings(values: Mapping[str, str]) -> dict[str, Any]:
    """Turn dotted keys into nested ones, values as Hydra reads them."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.lstrip("+").split(".")
        node = nested
        for part in path:
            node = node.setdefault(part, {})
        node[last] = read_value(value)
    return nested
