"""The plan of a run as people read it: a row for each part of a stage, downloads, the total."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.table import Table

from fmawsss.files.downloads import Download
from fmawsss.files.writing import find_existing
from stages.jobs.tables import open_console
from stages.plan.sizes import write_size, write_time
from stages.stage import Run
from stages.step_memory import find_free_memory

WIDTH = 140  # columns, where it is no terminal that tells


@dataclass(frozen=True)
class Row:
    """A training or a prediction of a run: what is there, what is left, and what that takes."""

    part: str
    there: str
    left: str
    each: str = ""
    seconds: float = 0.0
    memory: int = 0
    disk: float = 0.0


def print_plan(
    rows: Sequence[Row],
    files: Sequence[Download],
    run: Run,
    notes: Sequence[str],
) -> None:
    """Print the rows, then what is fetched, the total, and what is to be known beside."""
    table = Table("stage", "there", "left", "measured", title="plan: nothing is done")
    for column in ("time", "memory", "disk"):
        table.add_column(column, justify="right")
    for row in rows:
        shown = (write_time(row.seconds), write_size(row.memory), write_size(row.disk))
        takes = shown if row.each else ("", "", "")
        table.add_row(row.part, row.there, row.left, row.each, *takes)
    console = open_console(WIDTH)
    console.print(table)

    # what holds for all of them
    missing = list_missing(files)
    lines = [*tell_files(files), tell_total(rows, missing, run), *notes]
    console.print("\n".join(lines), soft_wrap=True)


def list_missing(files: Sequence[Download]) -> list[Download]:
    """List the files to fetch, each once."""
    return list({file.path: file for file in files if not file.there}.values())


def tell_files(files: Sequence[Download]) -> list[str]:
    """Tell where each file of other projects lies, or how large it is and where from."""
    lines = []
    for file in {file.path: file for file in files}.values():
        if file.there:
            lines.append(f"{file.path} is there")
        else:
            lines.append(f"to fetch: {file.path}, {write_size(file.size or 0)}, from {file.url}")
    return lines or ["nothing to fetch"]


def tell_total(rows: Sequence[Row], missing: Sequence[Download], run: Run) -> str:
    """Tell time, memory and disk of the whole run, and what there is of them."""
    place = find_existing(run.work)
    fetched = sum(file.size or 0 for file in missing)
    disk, free = sum(row.disk for row in rows) + fetched, shutil.disk_usage(place).free
    peak, memory = max(row.memory for row in rows), find_free_memory(run.device)
    where = f"the CPU, {torch.get_num_threads()} threads"
    if run.device.type == "cuda":
        where = torch.cuda.get_device_name()

    # one line, and a warning where something is too little
    told = f"total: {write_time(sum(row.seconds for row in rows))} on {where}, "
    told += f"{write_size(peak)} of memory"
    told += "" if memory is None else f" ({write_size(memory)} free now)"
    told += f", {write_size(disk)} of disk with what is fetched ({write_size(free)} free)"
    return (
        told if disk < free else f"{told}: TOO LITTLE DISK, choose another with paths.outputs=DIR"
    )
