"""Evaluate the checkpoints of a list, and fill a page: `python -m benchmarks.checkpoints_table`.

Each is applied with `python infer.py` in a process of its own, to the images that its words name,
in a folder of its own; what is there already is not made again. Rows whose checkpoint is not here
stay as they stand on the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fmawsss.files.writing import write_bytes

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("checkpoints.yaml")
PAGE = ROOT / "docs" / "checkpoints.md"
HEAD = ("checkpoint", "file", "split", "masks", "mIoU", "precision", "recall", "command")
MISSING = "not measured: no such file here"
TASK = re.compile(r"task=(\w+)")
ROW = re.compile(r"^\| (?!checkpoint \|)(?!---)([^|]+?) \|.*$", re.MULTILINE)
NUMBERS = ("miou", "mean_precision", "mean_recall")


@dataclass(frozen=True)
class Entry:
    """A row of the list."""

    name: str
    ckpt: Path
    words: str

    @property
    def task(self) -> str:
        """The stage that the checkpoint belongs to."""
        found = TASK.search(self.words)
        return found[1] if found else "network"


def main(words: Sequence[str] | None = None) -> None:
    """Evaluate what is here, print each row, and write the page; fail where a command failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.checkpoints_table", description=__doc__)
    parser.add_argument("--list", type=Path, default=LIST, help="the checkpoints, in YAML")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the table")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "checkpoints")
    options = parser.parse_args(words)
    entries = read_list(options.list)
    known, failed = read_rows(options.page), []
    rows: list[str] = []
    for entry in entries:
        try:
            lines = list(evaluate(entry, options.out)) if entry.ckpt.is_file() else []
        except subprocess.CalledProcessError as error:
            failed.append(entry.name)
            print(f"{entry.name}: {(error.stderr or '').strip()[-500:]}", flush=True)  # noqa: T201
            lines = []
        lines = lines or known.get(entry.name) or [write_row(entry, MISSING)]
        print("\n".join(lines), flush=True)  # noqa: T201
        rows += lines
    write_page(options.page, rows)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def read_list(path: Path) -> list[Entry]:
    """Read the list; raises SystemExit naming the entry that is none."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = []
    for number, node in enumerate(found if isinstance(found, list) else [found], 1):
        whole = isinstance(node, Mapping) and {"name", "ckpt", "words"} == set(node)
        if not whole or "|" in str(node["name"]):
            sys.exit(f"{path}, entry {number}: expected name (without |), ckpt and words")
        entries.append(Entry(str(node["name"]), Path(node["ckpt"]), str(node["words"])))
    return entries


def evaluate(entry: Entry, out: Path) -> Iterator[str]:
    """Apply a checkpoint, and write a row for each split that it was scored on."""
    work = out / re.sub(r"\W+", "_", entry.name)
    command = [sys.executable, str(ROOT / "infer.py"), *shlex.split(entry.words)]
    command += [f"ckpt={entry.ckpt}", f"paths.work={work}", "logger=none", "report=none"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    scores = json.loads((work / "scores.json").read_text())[entry.task]
    for split, kinds in scores.items():
        for kind, found in kinds.items():
            yield write_row(entry, describe_file(entry.ckpt), split, kind, found)


def describe_file(path: Path) -> str:
    """Say which file it is: its size, and a digest of eight characters."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    return f"{digest}, {path.stat().st_size / 1e6:.3g} MB"


def write_row(
    entry: Entry, file: str, split: str = "", kind: str = "", found: Mapping[str, Any] | None = None
) -> str:
    """Write a row of the table, scores in percent."""
    scores = [f"{100 * found[name]:.1f}" if found else "" for name in NUMBERS]
    cells = [entry.name, file, split, kind, *scores, f"`{entry.words}`"]
    return f"| {' | '.join(cells)} |"


def read_rows(page: Path) -> dict[str, list[str]]:
    """Read the rows of a page by their names."""
    rows: dict[str, list[str]] = {}
    for found in ROW.finditer(page.read_text() if page.is_file() else ""):
        rows.setdefault(found[1], []).append(found[0])
    return rows


def write_page(page: Path, rows: Sequence[str]) -> None:
    """Put rows in the place of the table of a page."""
    lines = page.read_text().splitlines() if page.is_file() else ["# Checkpoints", ""]
    places = [number for number, line in enumerate(lines) if line.startswith("|")]
    first, last = (places[0], places[-1] + 1) if places else (len(lines), len(lines))
    head = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    lines[first:last] = [*head, *rows]
    write_bytes(page, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
