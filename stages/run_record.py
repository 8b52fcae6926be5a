"""What a run leaves beside Hydra's files: `run.json`, with code, machine and time per stage."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from fmawsss.files.json_files import RUN_FILE, read_json, write_json
from fmawsss.files.writing import write_bytes
from stages.signals import Stopped
from stages.words import name_program

logger = logging.getLogger(__name__)

CODE = Path(__file__).parents[1]


@contextmanager
def record_run(
    folder: Path, what: Mapping[str, Any], config: str, draw_report: Callable[[], None] | None
) -> Iterator[None]:
    """Write `run.json` and the resolved `config.yaml` into a run's folder, and how the run ended.

    `what` names the run (stage, data set, overrides). A run that ends well draws its report; what
    fails there costs nothing of what the run made.
    """
    write_bytes(folder / "config.yaml", config.encode())
    started = time.monotonic()
    begun = {"status": "running", "stages": []}
    write_json(folder / RUN_FILE, {**what, **describe_surroundings(), **begun})

    # The run
    try:
        yield
    except BaseException as error:
        status = str(error)
        if not isinstance(error, Stopped):
            keep_traceback(folder, error)
            status = f"stopped by {type(error).__name__}: {str(error)[:500]}"
        with suppress(OSError, ValueError):  # a full disk is the first error, not the second one
            amend_record(folder, status=status, seconds=round(time.monotonic() - started, 1))
        raise
    amend_record(folder, status="finished", seconds=round(time.monotonic() - started, 1))

    # The report of a run that ended well
    if draw_report is not None:
        try:
            draw_report()
        except Exception as error:
            keep_traceback(folder, error)
            logger.error(
                "the report was not written (%s: %s); `python infer.py task=report run=DIR` tries "
                "again",
                type(error).__name__,
                error,
            )


def keep_traceback(folder: Path, error: BaseException) -> None:
    """Write the traceback of an error into a run's folder, and note its place in the error."""
    path = folder / "error.txt"
    with suppress(OSError):
        write_bytes(path, "".join(traceback.format_exception(error)).encode())
        error.add_note(f"all of it is in {path}")


def amend_record(folder: Path, **changes: Any) -> None:
    """Replace entries of a run's record."""
    write_json(folder / RUN_FILE, {**read_json(folder / RUN_FILE), **changes})


def describe_surroundings() -> dict[str, Any]:
    """Describe command, time, code, versions and machine."""
    return {
        "command": shlex.join([*name_program(Path(sys.argv[0]).stem).split(), *sys.argv[1:]]),
        "folder": str(Path.cwd()),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": find_commit(CODE),
        "versions": list_packages(),
        "machine": describe_machine(),
    }


def find_commit(folder: Path) -> str | None:
    """Name the git commit of a checkout, marked where files differ; None without git."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _ask_git(folder, "rev-parse", "HEAD")
        changed = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit[:12] + (" with changes" if changed else "")


def _ask_git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def list_packages() -> dict[str, str]:
    """List Python, this package and the packages that it asks for, with their versions."""
    try:
        wanted = importlib.metadata.requires("fmawsss") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
        wanted = ["torch", "lightning", "hydra-core"]
    needed = [re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line]
    versions = {"python": platform.python_version()}
    for name in ["fmawsss", *needed]:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe_machine() -> dict[str, Any]:
    """Describe host, system, processor, cores and memory; stages note their accelerators."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": name_processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(measure_memory() / 2**30, 1),
        "threads": torch.get_num_threads(),
    }


def name_processor() -> str:
    """Name the model of the processor; Linux knows more than Python tells."""
    known, described = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if not described.is_file():
        return known
    found = re.search(r"^model name\s*:\s*(.+)$", described.read_text(), re.MULTILINE)
    return found[1] if found else known


def measure_memory() -> int:
    """Return the memory of the machine in bytes, 0 where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
