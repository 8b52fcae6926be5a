"""Tables for people, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 1000  # columns, where it is no terminal that tells: tables are as wide as they need


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers stand on the right, None is left empty."""
    rows = [list(row) for row in rows]
    table = Table(title=title)
    for index, column in enumerate(columns):
        number = any(isinstance(row[index], int) for row in rows)
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    open_console(WIDTH).print(table)


def open_console(width: int = WIDTH) -> Console:
    """Open what tables are printed on: names are shown as they are.

    width: columns, where it is no terminal that tells.
    """
    known = None if Console().is_terminal else width
    return Console(width=known, markup=False, emoji=False)
