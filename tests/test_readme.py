"""README and docs name files, headings and options that exist."""

from __future__ import annotations

import re

import pytest
import yaml
from front_door import ROOT, list_options

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = (ROOT / "docs" / "options.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"(?m)^#+ (.*)$", file.read_text())
            assert heading in [line.lower().replace(" ", "-") for line in headings], target


def test_every_page_stands_in_the_site():
    listed = re.findall(r"\w+\.md", yaml.dump(read_site()["nav"]))
    assert sorted(listed) == [page.name for page in PAGES[1:]]


def read_site():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def test_options_are_listed():
    superpixels, prompts = (
        ("sam", "masks", "speed"),
        ("clip", "prompts", "affinity", "loss", "cache"),
    )
    networks = ("network", "targets", "averaging", "inference", "refine", "trainer")
    runs = ("sweep", "criterion", "logger", "report")
    for group in ("dataset", "dataset/labels", *superpixels, *prompts, *networks, *runs):
        row = next(line for line in OPTIONS.splitlines() if line.startswith(f"| `{group}=` |"))
        assert set(re.findall(r"`(\w+)`", row)) == set(list_options(group))
