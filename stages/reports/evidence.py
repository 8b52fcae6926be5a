"""The report's table of all sources of evidence, where `python -m benchmarks.evidence` made one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmawsss.files.json_files import read_json
from stages.pages import Section, render
from stages.reports.report import RunFolder
from stages.scores import write_percent

EVIDENCE_FILE = "evidence.json"
REMEDY = "delete it, `python -m benchmarks.evidence` makes it again"


def show_evidence(folder: RunFolder) -> Section | None:
    """Show the mIoU of each source of evidence, with the supervision that it had."""
    path = folder.path / EVIDENCE_FILE
    if not path.is_file():
        return None
    found = read_json(path, REMEDY)
    try:
        rows = list_rows(found)
        caption, columns = f"mIoU on {found['split']}", [*found["columns"]]
        html = render("evidence.html.j2", caption=caption, columns=columns, rows=rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no table of evidence ({error!r}): {REMEDY}") from error
    return Section("Evidence", html)


def list_rows(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """List the rows of the table as text: scores of each source, then what had which labels."""
    rows = []
    for row in found["rows"]:
        rows.append((f"with {row['source']}", [write_percent(value) for value in row["miou"]]))
        rows.append(("supervision", [value or "none" for value in row["supervision"]]))
    return rows


def write_markdown(found: Mapping[str, Any]) -> str:
    """Write the table with commands, fingerprints of products and digests of files."""
    columns = ["mIoU, " + found["split"], *found["columns"]]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join([name, *cells]) + " |" for name, cells in list_rows(found)]
    lines += [
        "",
        f"Images have image labels, for every column. Seed {found['seed']}. Commands:",
        "",
    ]
    lines += [f"    {command}" for command in found["commands"]]
    lines += ["", "| product | fingerprint | weights |", "|---|---|---|"]
    lines += [
        f"| {name} | {each['fingerprint']} | {each['weights']} |"
        for name, each in found["products"].items()
    ]
    lines += ["", "| file of weights | SHA-256 |", "|---|---|"]
    lines += [f"| {name} | {digest} |" for name, digest in found["files"].items()]
    return "\n".join(lines) + "\n"
