"""Pages of HTML that need nothing else: one environment, one style sheet, one frame for all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.scores import write_percent

CODE = re.compile(
    r"(?<!`)(?P<fence>`+)(?!`)(?P<room> ?)(?P<code>.+?)(?P=room)(?P=fence)(?!`)", re.S
)


@dataclass(frozen=True)
class Section:
    """A part of a page: a title and HTML; the title's first word names its anchor."""

    title: str
    html: Markup

    @property
    def anchor(self) -> str:
        """Name the place to jump to."""
        return self.title.split()[0].lower()


def render_page(
    template: str, kind: str, title: str, sections: Sequence[Section], **facts: Any
) -> str:
    """Fill in the template of a whole page; `facts` stand below its title."""
    return render(template, kind=kind, title=title, sections=sections, **facts)


def render(template: str, **values: Any) -> Markup:
    """Fill in a template of the folder `templates`; whatever is no `Markup` is escaped."""
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": write_percent,
        "duration": write_duration,
        "code": mark_code,
    }
    return environment


def mark_code(text: str) -> Markup:
    """Escape a text, and set as code what `quote_code` quoted.

    >>> mark_code("run `a < b`"), mark_code(quote_code("a`b"))
    (Markup('run <code>a &lt; b</code>'), Markup('<code>a`b</code>'))
    """
    return Markup(CODE.sub(r"<code>\g<code></code>", str(escape(text))))


def quote_code(text: str) -> str:
    """Quote a text as code, as Markdown does: between more backticks than it holds in a row.

    >>> quote_code("a b"), quote_code("`a`")
    ('`a b`', '`` `a` ``')
    """
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    room = " " if text[:1] in " `" or text[-1:] in " `" else ""
    return f"{fence}{room}{text}{room}{fence}"


def write_duration(seconds: float) -> str:
    """Write a time as a person would say it.

    >>> [write_duration(value) for value in (0.25, 59.6, 61, 7325)]
    ['0.2 s', '1 min 0 s', '1 min 1 s', '2 h 2 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
