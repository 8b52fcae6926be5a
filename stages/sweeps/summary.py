"""The summary of a sweep, from its folder alone, also while it runs: tables, plots, the best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmawsss.files.json_files import read_json
from fmawsss.files.texts import write_row
from fmawsss.files.writing import write_bytes
from stages.pages import quote_code
from stages.sweeps.best import write_best
from stages.sweeps.effects import (
    SEED,
    average_scores,
    find_best,
    find_effects,
    group_seeds,
    keep_measured,
    share_variance,
    shorten_key,
)
from stages.sweeps.jobs import FAILED, FINISHED, SWEEP_FILE, Job, find_varied, read_jobs
from stages.sweeps.page import Finding, write_html, write_markdown
from stages.sweeps.searches import STUDY_FILE

logger = logging.getLogger(__name__)


def summarise_sweep(folder: Path) -> None:
    """Write `summary.csv`, `.md` and `.html`, plots, and `experiment/best.yaml` of a sweep.

    Raises:
        FileNotFoundError: when no job of a sweep lies in `folder`.
    """
    # read what there is
    jobs = drop_outdated(read_jobs(folder))
    if not jobs:
        raise FileNotFoundError(
            f"{folder} holds no jobs of a sweep (*/job.json); name the folder with run=DIR"
        )
    sweep = read_json(folder / SWEEP_FILE)
    title = sweep["title"]

    # find out what it says
    pictures = draw_pictures(jobs, sweep["label"])
    command = write_best(folder, jobs, sweep)
    findings = list(describe_sweep(folder, jobs, sweep, command))

    # write it for machines and for people
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    write_bytes(folder / "summary.csv", write_csv(list_rows(folder, jobs)).encode())
    write_bytes(folder / "summary.md", write_markdown(title, findings, list(pictures)).encode())
    write_bytes(folder / "summary.html", write_html(title, findings, pictures).encode())
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
    """Draw the effects of settings if any varies, and interactions if two or more do."""
    from stages.sweeps.plots import draw_effects, draw_interactions  # with matplotlib

    effects = find_effects(jobs)
    pictures = {"effects.png": draw_effects(effects, label)} if effects else {}
    if len(effects) > 1:
        pictures["interactions.png"] = draw_interactions(jobs, list(effects), label)
    return pictures


def list_rows(folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """List the jobs, the best first: what varies, the value, and every mIoU that the job left."""
    varied = find_varied(jobs)
    rows = []
    for job in sorted(jobs, key=lambda job: (job.value is None, -(job.value or 0), job.number)):
        row = {"job": job.number, **{key: job.settings.get(key, "") for key in varied}}
        row |= {"value": job.value, "status": job.status, "seconds": job.seconds}
        row |= {"error": job.reason, **read_mious(folder / str(job.number))}
        rows.append(row)
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
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(column, "") for column in columns] for row in rows]
    return "".join(write_row(row) for row in (columns, *cells))


def describe_sweep(
    folder: Path, jobs: Sequence[Job], sweep: Mapping[str, Any], command: str | None
) -> Iterator[Finding]:
    """Describe all that is found, in the order of the page; `command` runs the best settings."""
    yield describe_end(jobs, sweep)
    yield from describe_failures(jobs)
    yield from describe_best(jobs, sweep, command)
    yield from describe_repetitions(folder, jobs)
    yield from describe_effects(jobs)
    yield from describe_importance(folder)
    yield describe_jobs(folder, jobs)


def describe_end(jobs: Sequence[Job], sweep: Mapping[str, Any]) -> Finding:
    """Describe how a sweep ended, and what it is chosen by."""
    done, failed = (sum(job.status == status for job in jobs) for status in (FINISHED, FAILED))
    ended = f"{done} finished, {failed} failed, {len(jobs) - done - failed} not finished"
    measured = " of ".join(filter(None, (sweep["label"], sweep["criterion"])))
    value = f"The value is {measured}."
    if not keep_measured(jobs):
        value = "Nothing is chosen: no value was measured."
    command = f"Command: {quote_code(sweep['command'])}"
    return Finding("Overview", f"{len(jobs)} jobs: {ended}. {value} {command}")


def describe_failures(jobs: Sequence[Job]) -> Iterator[Finding]:
    """Describe the jobs that failed."""
    failed = [job for job in jobs if job.status == FAILED]
    rows = [(job.number, " ".join(job.overrides), job.reason) for job in failed]
    if rows:
        text = "The same command tries them again."
        yield Finding("Failed jobs", text, ("job", "overrides", "error"), rows)


def describe_best(
    jobs: Sequence[Job], sweep: Mapping[str, Any], command: str | None
) -> Iterator[Finding]:
    """Describe the best settings."""
    best = find_best(jobs)
    if best is None or command is None:
        return
    overrides, effect = best
    chosen = dict(override.split("=", 1) for override in overrides)
    rows = [(key, chosen.get(key, "")) for key in find_varied(jobs) if key != SEED]
    text = (
        f"{sweep['label']} {write_mean(effect.mean, effect.std)}. Run it with {quote_code(command)}"
    )
    yield Finding("Best settings", text, ("setting", "value"), rows)


def describe_repetitions(folder: Path, jobs: Sequence[Job]) -> Iterator[Finding]:
    """Describe every score of jobs that differ only in their seed."""
    keys = [key for key in find_varied(jobs) if key != SEED]
    if SEED not in find_varied(jobs):
        return

    # gather what each job was worth
    done = [job for job in jobs if job.status == FINISHED]
    scores: dict[int, dict[str, float]] = {}
    for job in done:
        value = {} if job.value is None else {"value": job.value}
        scores[job.number] = value | read_mious(folder / str(job.number))

    # average it within each group
    rows = []
    for group in group_seeds(done).values():
        settings = [group[0].settings.get(key, "") for key in keys]
        for name, effect in average_scores(group, scores).items():
            mean = write_mean(effect.mean, effect.std)
            rows.append((*settings, name, len(effect.values), mean))
    header = (*map(shorten_key, keys), "score", "seeds", "mean ± std")
    yield Finding("Over random seeds", "", header, rows)


def describe_effects(jobs: Sequence[Job]) -> Iterator[Finding]:
    """Describe the main effect of each setting."""
    rows = []
    for key, levels in find_effects(jobs).items():
        share = f"{100 * share_variance(levels):.0f}%"
        for effect in levels:
            mean = write_mean(effect.mean, effect.std)
            rows.append((key, effect.level, len(effect.values), mean, share))
    if rows:
        header = ("setting", "value", "jobs", "mean ± std", "share of variance")
        yield Finding("Main effects", "Averages over everything else.", header, rows)


def describe_importance(folder: Path) -> Iterator[Finding]:
    """Describe what Optuna holds for important in its own study."""
    if not (folder / STUDY_FILE).is_file():
        return
    from stages.sweeps.optuna_search import BEST, find_importance  # an extra

    rows = [(key, f"{100 * share:.0f}%") for key, share in find_importance(folder).items()]
    if rows:
        text = f"What tells the best {BEST} jobs from the others, by Optuna (PED-ANOVA)."
        yield Finding("Importance", text, ("setting", "importance"), rows)


def describe_jobs(folder: Path, jobs: Sequence[Job]) -> Finding:
    """Describe all jobs, the best first."""
    keys = list(find_varied(jobs))
    rows = []
    for row in list_rows(folder, jobs):
        settings = [row[key] for key in keys]
        value = write_value(row["value"])
        rows.append((row["job"], *settings, value, row["status"], row["seconds"] or ""))
    header = ("job", *map(shorten_key, keys), "value", "status", "seconds")
    return Finding("All jobs", "`summary.csv` has every score of each.", header, rows)


def write_mean(mean: float, std: float) -> str:
    """Write mean and standard deviation in percent, as all scores lie in 0…1."""
    return f"{100 * mean:.1f}" if std != std else f"{100 * mean:.1f} ± {100 * std:.1f}"


def write_value(value: float | None) -> str:
    """Write a value in percent, finely enough to tell jobs apart."""
    return "" if value is None else f"{100 * value:.2f}"
