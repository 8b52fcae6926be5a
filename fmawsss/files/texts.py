"""Text that people write: lists, tables saved by a spreadsheet, names of classes."""

from __future__ import annotations

import csv
import io
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_CLASSES = 254  # masks of 8 bits hold the background and 255, too
LONGEST_NAME = 200  # characters
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # controls, halves of characters, line ends
FORMULAS = ("=", "+", "-", "@")  # begin a formula in a spreadsheet
NUMBER = re.compile(r"-\d+(\.\d+)?(e-?\d+)?")
NO_CHARACTERS = {"\ufffe", "\uffff"}  # no XML holds them


@dataclass(frozen=True)
class Table:
    """A CSV file."""

    columns: Sequence[str]  # the names in its first line
    delimiter: str
    lines: Sequence[tuple[int, list[str]]] = ()  # the other lines, each with its number

    @property
    def guarded(self) -> list[str]:
        """List the cells that are read without the apostrophe that begins them."""
        return [cell for _, cells in self.lines for cell in cells if unguard_cell(cell) != cell]

    def read_rows(self) -> Iterator[tuple[int, dict[str, str], list[str]]]:
        """Read line by line: number, cells by column, and what lies beyond the last column."""
        for number, cells in self.lines:
            cells = list(map(unguard_cell, cells))
            named = dict.fromkeys(self.columns, "") | dict(zip(self.columns, cells, strict=False))
            yield number, named, cells[len(self.columns) :]


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises ValueError naming a file of another encoding.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is {error.object[error.start]:#x}"
        raise ValueError(explain_encoding(path, found)) from None
    if "\0" in text:
        raise ValueError(explain_encoding(path, "it holds zero bytes"))
    return text


def explain_encoding(path: Path, found: str) -> str:
    """Say that a file has another encoding, and what to do."""
    remedy = "save it again in that encoding, in Excel as `CSV UTF-8`"
    return f"{path} is no text in UTF-8 ({found}): {remedy}"


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Read a CSV file, without its empty lines.

    Cells are separated by commas, or by semicolons (as Excel writes them in some languages), or by
    tabs.
    Raises ValueError naming the file when it lacks a required column or cannot be read.
    """
    # read all lines
    text = re.sub(r"\Asep=.(?=\r?\n)", "", read_text(path))  # Excel's line about itself
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = next((mark for mark in ";\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; is a quotation mark left open?"
        ) from error

    # the first one names the columns
    columns = lines[0][1] if lines else []
    if [column for column in columns if column in required] != [*required]:
        raise ValueError(
            f"{path} has the columns {reprlib.repr(columns)}; expected a first line "
            f"`{','.join(required)}`, with any other columns: rename them, or add the line"
        )
    return Table(columns, delimiter, lines[1:])


def guard_cell(text: str) -> str:
    """Write an apostrophe in front of what a spreadsheet would take for a formula.

    >>> guard_cell("=1+1"), guard_cell("'=1+1"), guard_cell("a=b"), guard_cell("-0.5")
    ("'=1+1", "''=1+1", 'a=b', '-0.5')
    """
    formula = text.lstrip("'").startswith(FORMULAS) and not NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def write_row(cells: Iterable[object], delimiter: str = ",") -> str:
    r"""Write a line of a CSV file; no text in it is a formula.

    >>> print(write_row(["=1+1", -1, None, "a,b"]), end="")
    '=1+1,-1,,"a,b"
    """
    line = io.StringIO()
    guarded = (guard_cell(cell) if isinstance(cell, str) else cell for cell in cells)
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(guarded)
    return line.getvalue()


def unguard_cell(text: str) -> str:
    """Undo `guard_cell`.

    >>> unguard_cell("'=1+1"), unguard_cell("'tis")
    ('=1+1', "'tis")
    """
    guarded = text.startswith("'") and text.lstrip("'").startswith(FORMULAS)
    return text[1:] if guarded else text


def name_first(names: Sequence[str]) -> str:
    """Name the first five of many."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def compose(text: str) -> str:
    """Return a text in its composed form (NFC): an é is one character, not e and an accent.

    >>> len("e\u0301"), len(compose("e\u0301"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", text)


def fold_text(text: str) -> str:
    """Return what texts have in common that look alike but for capitals and width.

    >>> fold_text("Cat\u200b") == fold_text("cat")
    True
    """
    seen = (mark for mark in text if unicodedata.category(mark) != "Cf")
    return unicodedata.normalize("NFKC", "".join(seen)).casefold()


def has_unseen(text: str) -> bool:
    """Say whether a text holds what belongs into no name: control characters, line ends, halves."""
    found = set() if text.isprintable() else set(text)
    return bool(found & NO_CHARACTERS or UNSEEN & set(map(unicodedata.category, found)))


def check_class_name(name: object) -> None:
    """Raise ValueError for a name that a table, a report or a prompt cannot hold."""
    shown = reprlib.repr(name)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{shown} is no name of a class: write a word, in quotation marks")
    if len(name) > LONGEST_NAME or has_unseen(name):
        raise ValueError(
            f"{shown} is no name of a class: expected at most {LONGEST_NAME} characters, without "
            "line ends and control characters"
        )
    if name != name.strip():
        raise ValueError(f"{shown} is no name of a class: take the space around it away")
    if name.casefold() == "background":
        raise ValueError(f"{name} is what no class covers: take it out of the classes")


def check_class_names(names: Sequence[object]) -> None:
    """Raise ValueError for names of classes that cannot be used, each or together."""
    if isinstance(names, str):
        raise ValueError(f"{reprlib.repr(names)} is one text, expected a list of names: [{names}]")
    for name in names:
        check_class_name(name)
    twice = [name for name, count in Counter(map(compose, map(str, names))).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} classes have the same name as another, first {twice[0]!r}: name each "
            "once, in dataset.classes"
        )
    if len(names) > MOST_CLASSES:
        raise ValueError(
            f"{len(names)} classes, but a mask holds at most {MOST_CLASSES}: unite some in "
            "dataset.classes"
        )


def require_names(names: Sequence[str] | None, key: str) -> Sequence[str] | None:
    """Return a list of names; raises ValueError for one text, or for what is no text."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
        raise ValueError(f"dataset.{key}={names}: expected a list of names, [cat,dog]")
    return names
