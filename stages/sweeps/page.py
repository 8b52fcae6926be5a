"""Write sections of text and tables as Markdown, and as one HTML file with its pictures inside."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
div { overflow-x: auto } table { border-collapse: collapse; font-size: 14px } code { background: #eee; padding: 0 .2em }
td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }
img { max-width: 100% }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } code { background: #333 } }
"""


@dataclass(frozen=True)
class Table:
    """Rows of values under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Section:
    """A title, a sentence (`code` between backticks), and perhaps a table."""

    title: str
    text: str
    table: Table | None = None


def write_markdown(title: str, sections: Sequence[Section], pictures: Sequence[str]) -> str:
    """Write a Markdown page; pictures lie beside it."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", "", *([section.text, ""] if section.text else [])]
        if section.table is not None:
            lines += [
                _join_cells(section.table.header),
                _join_cells("---" for _ in section.table.header),
            ]
            lines += [*(_join_cells(row) for row in section.table.rows), ""]
    return "\n".join([*lines, *(f"![{name}]({name})" for name in pictures), ""])


def write_html(title: str, sections: Sequence[Section], pictures: Mapping[str, bytes]) -> str:
    """Write one HTML file that needs nothing else."""
    parts = [_write_section(section) for section in sections]
    images = [
        f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in pictures.items()
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", parts[0], *images, *parts[1:]])
    return (
        f'<!doctype html><html lang="en">{head}<style>{STYLE}</style><body>{body}</body></html>\n'
    )


def _write_section(section: Section) -> str:
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(section.text))
    if section.table is None:
        return f"<h2>{html.escape(section.title)}</h2><p>{text}"
    rows = ["".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in section.table.rows]
    header = "".join(f"<th>{html.escape(name)}" for name in section.table.header)
    body = "".join(f"<tr>{row}" for row in rows)
    return f"<h2>{html.escape(section.title)}</h2><p>{text}<div><table><tr>{header}{body}</table></div>"


def _join_cells(cells: Any) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )
