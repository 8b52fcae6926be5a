"""README names files, headings and options that exist."""

from __future__ import annotations

import re

from front_door import ROOT, list_options

README = (ROOT / "README.md").read_text()


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
