"""What is told, and how it is struck: programs in forks of a process that has loaded everything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import strikes
import torch

import infer
import train
from fmawsss.files import writing

SMALL = [
    "dataset.train_images=4",
    "dataset.val_images=2",
    "loading.workers=0",
    "logger=none",
]
PIPELINE = [
    *SMALL,
    "masks.points_per_side=2",
    *(f"stages.{name}.loop.max_steps=4" for name in ("cls", "seg", "network")),
    *(f"stages.{name}.save_every=1" for name in ("cls", "seg", "network")),
    "stages.cls.data.batch_size=2",
    "stages.seg.data.batch_size=2",
    "stages.network.data.batch_size=2",
    "stages.network.val_every=2",
]
INFERENCE = ["task=network", "split=train", "save_as=[coco,voc]", *SMALL]
STORY: list[tuple[Callable[[], None], list[str]]] = [
    (train.main, PIPELINE),
    (infer.main, INFERENCE),
]
EVENTS = ("written", "in place", "half a line")


@dataclass(frozen=True)
class Strike:
    """A kill: after some seconds, or at the n-th event of a kind."""

    seconds: float | None = None
    event: str | None = None
    call: int = 0


def tell(folder: Path, number: int, strike: Strike | None = None) -> int:
    """Run a command of the story in a folder; return its exit code, -9 for one that was killed."""
    main, words = STORY[number]
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    log = folder / f"log_{number}.txt"

    def program() -> None:
        torch.set_num_threads(1)
        if strike is not None and strike.event is not None:
            arm(strike.event, strike.call)
        main()

    pid = strikes.fork(program, [*words, *places], log)
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
