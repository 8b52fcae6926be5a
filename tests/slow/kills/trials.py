"""Trials: a story with several kills, and what is left of it."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .compare import list_differences, read_all
from .stories import Command
from .story import EVENTS, Strike, compose_once, tell

MOST = 4  # kills of one story


@dataclass
class Trial:
    """What became of one story."""

    number: int
    strikes: list[str] = field(default_factory=list)  # those that hit
    faults: list[str] = field(default_factory=list)


def tell_whole(folder: Path, story: Sequence[Command]) -> tuple[dict[str, Any], list[float]]:
    """Tell a story without any disturbance; return what it left, and the seconds it took."""
    seconds = []
    for number, command in enumerate(story):
        started = time.monotonic()
        log = place_log(folder, number)
        code = tell(folder, replace(command, twins=()), log)
        seconds.append(time.monotonic() - started)
        assert code == 0, log.read_text()
    return read_all(folder), seconds


def try_kills(scratch: Path, story: Sequence[Command], kills: int, seed: int) -> Iterator[Trial]:
    """Tell a story until so many kills have hit; yields each telling when it is at its end."""
    rng = random.Random(seed)
    compose_once(story)
    expected, seconds = tell_whole(prepare(scratch / "whole"), story)
    hit = number = 0
    while hit < kills:
        number += 1
        trial = Trial(number)
        folder = prepare(scratch / f"trial_{number}")
        for place, command in enumerate(story):
            strike_command(trial, folder, place, command, seconds[place], rng)
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


def place_log(folder: Path, place: int) -> Path:
    """Name the log of the command at a place of the story."""
    return folder / f"log_{place}.txt"


def strike_command(
    trial: Trial,
    folder: Path,
    place: int,
    command: Command,
    seconds: float,
    rng: random.Random,
) -> None:
    """Start a command again and again until it was killed often enough, then let it end."""
    log = place_log(folder, place)
    fine = (0, 1) if command.refused else (0,)
    for _ in range(rng.randint(1, MOST)):
        strike = draw_strike(rng, seconds)
        code = tell(folder, command, log, strike)
        if code == -signal.SIGKILL:
            trial.strikes.append(f"{place}: {strike}")
        elif code not in fine:
            trial.faults.append(f"exit {code}: {read_end(log)}")
        else:
            return
    code = tell(folder, command, log)
    if code not in fine:
        trial.faults.append(f"exit {code} at last: {read_end(log)}")


def draw_strike(rng: random.Random, seconds: float) -> Strike:
    """Draw a moment, or an event."""
    if rng.random() < 0.5:
        return Strike(seconds=rng.uniform(0, seconds))
    event = rng.choice(EVENTS)
    return Strike(event=event, call=rng.randint(1, 12 if event == "half a line" else 60))


def read_end(log: Path) -> str:
    """Return the last words of a command."""
    return " / ".join(log.read_text().splitlines()[-3:])
