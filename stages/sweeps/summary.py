"""Summarise a sweep from its folder: tables, plots, the best settings as an experiment; also while
it runs.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from fmawsss.files.storage import read_json, write_bytes
from stages.sweeps.effects import (
    SEED,
    average_scores,
    find_best,
    find_effects,
    group_seeds,
    keep_measured,
    share_variance,
)
from stages.sweeps.jobs import FAILED, FINISHED, SWEEP_FILE, Job, find_varied, read_jobs
from stages.sweeps.page import Section, Table, write_html, write_markdown
from stages.sweeps.plots import draw_effects, draw_interactions, shorten_key

logger = logging.getLogger(__name__)


def summarise_sweep(folder: Path) -> None:
    """Write `summary.csv`, `.md` and `.html`, the plots, and `experiment/best.yaml` into a sweep's
    folder.

    Raises:
        FileNotFoundError: when no job of a sweep lies there.
    """
    jobs = drop_outdated(read_jobs(folder))
    if not jobs:
        raise FileNotFoundError(
            f"{folder} holds no jobs of a sweep (*/job.json); name the folder with run=DIR"
        )
    sweep = read_json(folder / SWEEP_FILE)
    pictures = draw_pictures(jobs, sweep["label"])
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    command = write_best(folder, jobs, sweep)
    sections = describe_sweep(folder, jobs, sweep, command)
    write_bytes(folder / "summary.csv", write_csv(list_rows(folder, jobs)).encode())
    write_bytes(
        folder / "summary.md", write_markdown(sweep["title"], sections, list(pictures)).encode()
    )
    write_bytes(folder / "summary.html", write_html(sweep["title"], sections, pictures).encode())
    logger.info("summary of %d jobs: %s", len(jobs), folder / "summary.html")
    if command:
        logger.info("the best settings: %s", command)


def report_run(run: str, write_report: Callable[[str], None] | None) -> None:
    """Write the summary of a sweep again, or the report of any other folder of results."""
    if (Path(run) / SWEEP_FILE).is_file():
        summarise_sweep(Path(run))
    elif write_report is None:
        raise ValueError("report=none writes no report; leave it out")
    else:
        write_report(run)


def drop_outdated(jobs: Sequence[Job]) -> list[Job]:
    """Keep the newest of jobs with the same overrides: the configs changed since the others ran."""
    newest = {job.overrides: job for job in jobs}
    return sorted(newest.values(), key=lambda job: job.number)


def draw_pictures(jobs: Sequence[Job], label: str) -> dict[str, bytes]:
    """Draw what can be drawn: main effects of one setting or more, interactions of two or more."""
    effects = find_effects(jobs)
    pictures = {"effects.png": draw_effects(effects, label)} if effects else {}
    if len(effects) > 1:
        pictures["interactions.png"] = draw_interactions(jobs, list(effects), label)
    return pictures


def list_rows(folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """List the jobs as rows of a table, the best first: what varies, the value, and every mIoU that
    the job left.
    """
    varied = find_varied(jobs)
    rows = []
    for job in sorted(jobs, key=lambda job: (job.value is None, -(job.value or 0), job.number)):
        settings = {key: job.settings.get(key, "") for key in varied}
        ended = {
            "value": job.value,
            "status": job.status,
            "seconds": job.seconds,
            "error": job.reason,
        }
        rows.append(
            {"job": job.number, **settings, **ended, **read_mious(folder / str(job.number))}
        )
    return rows


def read_mious(folder: Path) -> dict[str, float]:
    """Read every mIoU in the `scores.json` of a job, as `stage/split/masks`."""
    path = folder / "scores.json"
    table = read_json(path) if path.is_file() else {}
    return {
        f"{stage}/{split}/{masks}": score["miou"]
        for stage, splits in table.items()
        for split, kinds in splits.items()
        for masks, score in kinds.items()
        if score.get("miou") is not None
    }


def write_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV; a row may lack columns."""
    columns = dict.fromkeys(key for row in rows for key in row)
    stream = StringIO()
    writer = csv.DictWriter(stream, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def describe_sweep(
    folder: Path, jobs: Sequence[Job], sweep: dict[str, Any], command: str | None
) -> list[Section]:
    """Describe a sweep: how it ended, its best settings, repetitions, main effects, all jobs,
    failures.
    """
    done, failed = (sum(job.status == status for job in jobs) for status in (FINISHED, FAILED))
    killed = len(jobs) - done - failed
    measured = " of ".join(filter(None, (sweep["label"], sweep["criterion"])))
    value = (
        f"The value is {measured}."
        if keep_measured(jobs)
        else "Nothing is chosen: no value was measured."
    )
    text = f"{len(jobs)} jobs: {done} finished, {failed} failed, {killed} not finished. {value}"
    sections = [Section("Overview", f"{text} Command: `{sweep['command']}`")]
    best = find_best(jobs)
    if best is not None and command is not None:
        chosen = dict(override.split("=", 1) for override in best[0])
        rows = [[key, chosen.get(key, "")] for key in find_varied(jobs) if key != SEED]
        text = f"{sweep['label']} {write_mean(best[1].mean, best[1].std)}. Run it with `{command}`"
        sections.append(Section("Best settings", text, Table(("setting", "value"), rows)))
    sections += [
        *describe_repetitions(folder, jobs),
        *describe_effects(jobs),
        describe_jobs(folder, jobs),
    ]
    if failed:
        rows = [
            [job.number, " ".join(job.overrides), job.reason]
            for job in jobs
            if job.status == FAILED
        ]
        sections.insert(
            1,
            Section(
                "Failed jobs",
                "The same command tries them again.",
                Table(("job", "overrides", "error"), rows),
            ),
        )
    return sections


def describe_repetitions(folder: Path, jobs: Sequence[Job]) -> list[Section]:
    """Describe each group of jobs that differ only in their seed: every score as mean ± standard
    deviation.
    """
    if SEED not in find_varied(jobs):
        return []
    done = [job for job in jobs if job.status == FINISHED]
    values = {job.number: {"value": job.value} if job.value is not None else {} for job in done}
    scores = {
        number: {**value, **read_mious(folder / str(number))} for number, value in values.items()
    }
    keys = [key for key in find_varied(jobs) if key != SEED]
    rows = []
    for group in group_seeds(done).values():
        settings = [group[0].settings.get(key, "") for key in keys]
        for name, effect in average_scores(group, scores).items():
            rows.append([*settings, name, len(effect.values), write_mean(effect.mean, effect.std)])
    return [
        Section(
            "Over random seeds",
            "",
            Table((*map(shorten_key, keys), "score", "seeds", "mean ± std"), rows),
        )
    ]


def describe_effects(jobs: Sequence[Job]) -> list[Section]:
    """Describe the main effect of each setting."""
    rows = [
        [
            key,
            effect.level,
            len(effect.values),
            write_mean(effect.mean, effect.std),
            f"{100 * share_variance(levels):.0f}%",
        ]
        for key, levels in find_effects(jobs).items()
        for effect in levels
    ]
    header = ("setting", "value", "jobs", "mean ± std", "share of variance")
    return (
        [Section("Main effects", "Averages over everything else.", Table(header, rows))]
        if rows
        else []
    )


def describe_jobs(folder: Path, jobs: Sequence[Job]) -> Section:
    """Describe all jobs, the best first."""
    keys = list(find_varied(jobs))
    rows = [
        [
            row["job"],
            *(row[key] for key in keys),
            write_percent(row["value"]),
            row["status"],
            row["seconds"] or "",
        ]
        for row in list_rows(folder, jobs)
    ]
    header = ("job", *map(shorten_key, keys), "value", "status", "seconds")
    return Section("All jobs", "`summary.csv` has every score of each.", Table(header, rows))


def write_best(folder: Path, jobs: Sequence[Job], sweep: dict[str, Any]) -> str | None:
    """Write the best settings as `experiment/best.yaml`; return the command that runs them."""
    best = find_best(jobs)
    if best is None:
        return None
    pairs = dict(override.split("=", 1) for override in best[0])
    groups = {
        key: value for key, value in pairs.items() if key in sweep["groups"] and key != "experiment"
    }
    values = {key: value for key, value in pairs.items() if key not in sweep["groups"]}
    command = f"{sweep['program']} --config-dir {folder} experiment=best paths.work={folder}/best"
    defaults = [pairs["experiment"]] if "experiment" in pairs else []
    defaults += [
        {f"override /{key}": yaml.safe_load(value)}
        for key, value in groups.items()
        if key != "sweep"
    ]
    experiment = (
        {"defaults": defaults, **nest_settings(values)} if defaults else nest_settings(values)
    )
    head = f"# @package _global_\n# The best settings of {sweep['title']}: {command}\n"
    write_bytes(
        folder / "experiment/best.yaml",
        (head + yaml.safe_dump(experiment, sort_keys=False)).encode(),
    )
    return command


def nest_settings(values: dict[str, str]) -> dict[str, Any]:
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


def write_mean(mean: float, std: float) -> str:
    """Write mean and standard deviation in percent, as all scores lie in 0…1."""
    return f"{100 * mean:.1f}" if std != std else f"{100 * mean:.1f} ± {100 * std:.1f}"


def write_percent(value: float | None) -> str:
    """Write a value in percent."""
    return "" if value is None else f"{100 * value:.2f}"
