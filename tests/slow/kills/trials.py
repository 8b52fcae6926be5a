"""Trials: a story with several kills, and what is left of it."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .compare import list_differences, read_all
from .story import EVENTS, STORY, Strike, tell

MOST = 4  # kills of one story


@dataclass
class Trial:
    """What became of one story."""

    number: int
    strikes: list[str] = field(default_factory=list)  # those that hit
    faults: list[str] = field(default_factory=list)


def tell_whole(folder: Path) -> tuple[dict[str, Any], list[float]]:
    """Tell the story without any disturbance; return what it left, and the seconds it took."""
    seconds = []
    for number in range(len(STORY)):
        started = time.monotonic()
        code = tell(folder, number)
        seconds.append(time.monotonic() - started)
        assert code == 0, (folder / f"log_{number}.txt").read_text()
    return read_all(folder), seconds


def try_kills(scratch: Path, kills: int, seed: int) -> Iterator[Trial]:
    """Tell stories until so many kills have hit; yields each when it is at its end."""
    rng = random.Random(seed)
    expected, seconds = tell_whole(prepare(scratch / "whole"))
    hit = number = 0
    while hit < kills:
        number += 1
        trial = Trial(number)
        folder = prepare(scratch / f"trial_{number}")
        for command in range(len(STORY)):
            strike_command(trial, folder, command, seconds[command], rng)
        trial.faults += list_differences(read_all(folder), expected)
        hit += len(trial.strikes)
        if not trial.faults:
            shutil.rmtree(folder)
        yield trial


def prepare(folder: Path) -> Path:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def strike_command(
    trial: Trial, folder: Path, command: int, seconds: float, rng: random.Random
) -> None:
    """Start a command again and again until it was killed often enough, then let it end."""
    for _ in range(rng.randint(1, MOST)):
        strike = draw_strike(rng, seconds)
        code = tell(folder, command, strike)
        if code == 0:
            return
        if code == -signal.SIGKILL:
            trial.strikes.append(f"{command}: {strike}")
        else:
            trial.faults.append(f"exit {code}: {read_end(folder, command)}")
    code = tell(folder, command)
    if code != 0:
        trial.faults.append(f"exit {code} at last: {read_end(folder, command)}")


def draw_strike(rng: random.Random, seconds: float) -> Strike:
    """Draw a moment, or an event."""
    if rng.random() < 0.5:
        return Strike(seconds=rng.uniform(0, seconds))
    event = rng.choice(EVENTS)
    return Strike(event=event, call=rng.randint(1, 12 if event == "half a line" else 60))


def read_end(folder: Path, command: int) -> str:
    """Return the last words of a command."""
    return " / ".join((folder / f"log_{command}.txt").read_text().splitlines()[-3:])
