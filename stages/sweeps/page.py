"""What a sweep found, written as Markdown, and as one HTML file with its pictures inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.pages import Section, render, render_page

MARKS = re.compile(r"[\\`*<>\[\]|~&!#]|\b_|_\b")


@dataclass(frozen=True)
class Finding:
    """A title, a sentence (with code as `quote_code` quotes it), and perhaps a table."""

    title: str
    text: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()


def write_markdown(title: str, findings: Sequence[Finding], pictures: Sequence[str]) -> str:
    """Write a Markdown page; pictures lie beside it."""
    lines = [f"# {escape_markdown(title)}", ""]
    for finding in findings:
        lines += [f"## {finding.title}", ""]
        if finding.text:
            lines += [finding.text, ""]
        if finding.header:
            table = [finding.header, ["---"] * len(finding.header), *finding.rows]
            lines += [*map(_join_cells, table), ""]
    return "\n".join([*lines, *(f"![{name}]({name})" for name in pictures), ""])


def write_html(title: str, findings: Sequence[Finding], pictures: Mapping[str, bytes]) -> str:
    """Write one HTML file that needs nothing else; the pictures stand in its first section."""
    shown = {name: _embed(picture) for name, picture in pictures.items()}
    sections = []
    for finding in findings:
        html = render("finding.html.j2", finding=finding, pictures=shown)
        sections.append(Section(finding.title, html))
        shown = {}
    return render_page("base.html.j2", "sweep", title, sections)


def _embed(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def escape_markdown(text: str) -> str:
    """Write a text on one line, so that Markdown shows it as it is.

    >>> escape_markdown("a|<b>_c_ max_steps")
    'a\\\\|\\\\<b\\\\>\\\\_c\\\\_ max_steps'
    """
    return MARKS.sub(r"\\\g<0>", " ".join(text.splitlines()))


def _join_cells(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(escape_markdown(str(cell)) for cell in cells)} |"
