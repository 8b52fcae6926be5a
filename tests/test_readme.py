"""README and docs name files, headings and options that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from front_door import ROOT, list_options

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = (ROOT / "docs" / "options.md").read_text()
PROGRAM = re.compile(r"(python|pip|fmawsss|make|eval|export|sbatch|docker) ")
SETTING = re.compile(r"[+~]{0,2}[a-z][\w./@]*=[^= ]\S*( [\w./@]+=\S+)*")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
AT_RISK = re.compile(
    r"[\[\](){}*?<>|;^!`#]|(?<!&)&(?!&)|\B[=~]\w"
)  # what zsh or bash read by themselves


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


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_links_of_the_site_stay_within_it(page):
    """What lies outside `docs/` is named as code: the site has no copy of it."""
    assert "](../" not in page.read_text()


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
    runs = ("sweep", "criterion", "logger", "report", "debug")
    for group in ("dataset", "dataset/labels", *superpixels, *prompts, *networks, *runs):
        row = next(line for line in OPTIONS.splitlines() if line.startswith(f"| `{group}=` |"))
        assert set(re.findall(r"`(\w+)`", row)) == set(list_options(group))


def list_typed(text: str) -> Iterator[str]:
    """List what a page tells to type: commands, and settings by themselves."""
    for line in re.findall(r"^    (?!    )(.*)$", text, re.MULTILINE):
        if PROGRAM.match(line):
            yield line
    for span in re.findall(r"`([^`\n]+)`", text):
        if PROGRAM.match(span) or SETTING.fullmatch(QUOTED.sub("Q", span)):
            yield span


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_is_quoted_for_every_shell(page):
    typed = list(list_typed(page.read_text()))
    assert typed or page.stem != "README"
    assert not [words for words in typed if AT_RISK.search(QUOTED.sub("", words))]


def test_words_at_risk_are_seen():
    text = (
        "    python train.py save_as=[voc]\n\nas `dataset.root=a/*.jpg` or `'a=[b]'`, `a=b c=(d)`"
    )
    found = [words for words in list_typed(text) if AT_RISK.search(QUOTED.sub("", words))]
    assert found == ["python train.py save_as=[voc]", "dataset.root=a/*.jpg", "a=b c=(d)"]
