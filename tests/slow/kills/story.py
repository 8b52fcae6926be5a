"""How a story is told and struck: programs in forks of a process that has loaded everything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import strikes
import torch
from composing import merge_choices_once, read_once
from omegaconf import OmegaConf

from fmawsss.files import writing

from .stories import Command

EVENTS = ("written", "in place", "half a line")


@dataclass(frozen=True)
class Strike:
    """A kill: after some seconds, or at the n-th event of a kind."""

    seconds: float | None = None
    event: str | None = None
    call: int = 0


def tell(folder: Path, command: Command, log: Path, strike: Strike | None = None) -> int:
    """Run a command of a story in a folder; return its exit code, -9 for one that was killed.

    Twins run at the same time, in processes of their own; one of them is struck, and the code is
    its own.
    """
    pids = [begin(folder, command, log, strike)]
    pids += [begin(folder, twin, log.with_suffix(".twin")) for twin in command.twins]
    code = end(pids[0], log, strike)
    for pid in pids[1:]:
        end(pid, log.with_suffix(".twin"), None)
    return code


def compose_once(story: Sequence[Command]) -> None:
    """Compose the settings of a story here, for its forks to find: it takes half of their time."""
    patch = pytest.MonkeyPatch()
    patch.setattr(OmegaConf, "load", staticmethod(read_once(OmegaConf.load)))
    merge_choices_once(patch)
    for command in story:
        if "-m" not in command.words:
            strikes.compose(command.main, command.words)


def begin(folder: Path, command: Command, log: Path, strike: Strike | None = None) -> int:
    """Start a command in a fork; return its process."""

    def program() -> None:
        torch.set_num_threads(1)
        if strike is not None and strike.event is not None:
            arm(strike.event, strike.call)
        command.main()

    words = [word.replace("FOLDER", str(folder)) for word in command.words]
    return strikes.fork(program, words, log)


def end(pid: int, log: Path, strike: Strike | None) -> int:
    """Wait for a process to end, or kill it when its time has come."""
    if strike is None or strike.seconds is None:
        return strikes.wait(pid, log, limit=900).code
    deadline = time.monotonic() + strike.seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL


def arm(event: str, call: int) -> None:
    """Let this process kill itself at the n-th event."""
    if event == "half a line":
        writing.append_line = half_then_die(call)  # for modules that are imported later
        for module in LINE_WRITERS:
            module.append_line = writing.append_line
        return
    name = {"written": "sync_file", "in place": "sync_folder"}[event]
    function: Callable[[Path], None] = getattr(writing, name)
    calls = 0

    def counted(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        function(path)

    setattr(writing, name, counted)


def half_then_die(call: int) -> Callable[[Path, str], None]:
    """Make what appends lines and dies in the middle of the n-th."""
    whole, calls = writing.append_line, 0

    def append(path: Path, line: str) -> None:
        nonlocal calls
        calls += 1
        if calls < call:
            return whole(path, line)
        with path.open("ab") as file:
            file.write(line[: len(line) // 2].encode())
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    return append


def list_line_writers() -> list[Any]:
    """List the modules that append lines."""
    from callbacks import score_journal, validation_record

    return [score_journal, validation_record]


LINE_WRITERS = list_line_writers()
