"""Every command that was printed before this house was built still works, letter by letter."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_door import compose_config
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from benchmarks import compare_trees

LINES = Path(__file__).with_name("commands_fb74c13.txt").read_text().splitlines()
COMMANDS = [line for line in LINES if line.startswith("python ")]
COMPARED = compare_trees.read_commands(compare_trees.COMMANDS.read_text(), compare_trees.QUICK)
PARSER = OverridesParser.create()


def split_sweep(words: list[str]) -> Iterator[list[str]]:
    """One job for each value of each word, the other words at their first value."""
    choices = []
    for word in words:
        override = PARSER.parse_override(word)
        swept = override.is_sweep_override() and override.is_choice_sweep()
        values = list(override.sweep_string_iterator()) if swept else []
        choices.append([f"{override.get_key_element()}={value}" for value in values] or [word])

    for several in itertools.zip_longest(*choices):
        yield [value or choice[0] for value, choice in zip(several, choices, strict=True)]


def list_swept(name: str, words: list[str]) -> list[str]:
    """The parameters of a named sweep, as one would type them; intervals are left to Optuna."""
    composed = compose_config(name, *words, hydra=True)
    params = composed.hydra.sweeper.params or {}
    return [f"{key}={value}" for key, value in params.items() if "interval" not in str(value)]


def compose_jobs(name: str, typed: list[str]) -> Iterator[DictConfig]:
    """Compose each job of a command as its door would."""
    words = [word for word in typed if not word.startswith("-") and word != "job"]
    if "-m" not in typed:
        yield compose_config(name, *words)
        return
    named = any(word.startswith("sweep=") for word in words)
    swept = list_swept(name, next(split_sweep(words))) if named else []
    for job in split_sweep([*swept, *words]):
        yield compose_config(name, *job)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_before_still_works(command):
    entry, *typed = shlex.split(command)[1:]
    assert list(compose_jobs(entry.removesuffix(".py"), typed))


@pytest.mark.slow
@pytest.mark.parametrize("command", [command.new for command in COMPARED])
def test_the_commands_that_trees_are_compared_on_compose(command):
    entry, *typed = command.split()
    assert list(compose_jobs(entry.removesuffix(".py"), typed))
