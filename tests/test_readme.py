"""README's commands are real: every one of them composes, and names files that exist."""

from __future__ import annotations

import re
import shlex

import pytest
from front_door import ROOT, compose_config, list_options

README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python (?:train|infer)\.py[^`\n&]*", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command):
    entry, *overrides = shlex.split(command.replace("DIR", "somewhere"))[1:]
    flags = [word for word in overrides if word.startswith("-")]
    words = [word for word in overrides if not word.startswith("-") and word != "job"]
    assert set(flags) <= {"-m", "--cfg", "--help", "-sc"}
    if "-sc" in flags:  # what follows speaks to Hydra
        words = []
    assert compose_config(entry.removesuffix(".py"), *words).name


def test_links_and_pictures_exist():
    headings = {
        f"#{line.strip('# ').lower().replace(' ', '-')}"
        for line in README.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert target in headings or (ROOT / target).exists(), target


def test_options_are_listed():
    superpixels, prompts = (
        ("sam", "masks", "speed"),
        ("clip", "prompts", "affinity", "loss", "cache"),
    )
    networks = ("network", "targets", "averaging", "inference", "refine", "trainer")
    runs = ("sweep", "criterion", "logger", "report")
    for group in ("dataset", "dataset/labels", *superpixels, *prompts, *networks, *runs):
        row = next(line for line in README.splitlines() if line.startswith(f"| `{group}=` |"))
        assert set(re.findall(r"`(\w+)`", row)) == set(list_options(group))
