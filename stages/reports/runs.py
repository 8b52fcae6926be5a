"""The report's sections about runs and files: what ran when, for how long, with which settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stages.pages import Section, render
from stages.reports.report import RunFolder

SHOWN_RUNS = 10
LINKS = {
    "scores.json": "scores of every stage",
    "pictures": "pictures of every stage",
    "superpixels": "superpixels",
    "seeds": "seeds",
    "masks": "masks of the network",
    "overlays": "masks over images",
    "cams": "CAMs",
    "exports": "masks for other tools",
    "labels.csv": "proposed labels",
    "templates.json": "ranked templates",
}


def describe_runs(folder: RunFolder) -> Section | None:
    """Say what ran: command, code, machine, time per stage, versions, and the runs before."""
    if not folder.runs:
        return None
    newest = folder.runs[-1]
    config = newest["folder"] / "config.yaml"
    page = render(
        "runs.html.j2",
        run=newest,
        times=list_times(folder.runs),
        earlier=folder.runs[-2 : -SHOWN_RUNS - 2 : -1],
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )
    return Section("Run", page)


def list_times(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """List what each stage did last (learn, encode, apply), with its share of the longest."""
    # What each stage did last
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for entry in run["stages"]:
            latest[entry["stage"], entry["action"]] = {**entry, "started": run["started"]}

    # How long it took
    longest = max((entry["seconds"] for entry in latest.values()), default=0) or 1
    newest = max((entry["started"] for entry in latest.values()), default="")
    return [
        {**entry, "share": entry["seconds"] / longest, "earlier": entry["started"] != newest}
        for entry in latest.values()
    ]


def list_files(folder: RunFolder) -> Section | None:
    """Link the files of the folder, relative to the report."""
    found = [(name, text) for name, text in LINKS.items() if (folder.path / name).exists()]
    found += [(path.name, "checkpoint") for path in sorted(folder.path.glob("*.ckpt"))]
    for run in folder.runs[-1:]:
        place = run["folder"].relative_to(folder.path)
        logs = sorted(path.name for path in run["folder"].glob("*.log"))
        names = ("config.yaml", *logs)
        found += [(str(place / name), "settings or log of this run") for name in names]
    return Section("Files", render("files.html.j2", files=found)) if found else None
