"""A JSON file too large to be held: the entries of the lists in its outermost object, one by one.

Python's own decoder reads each entry; here stands only where one begins. Places are counted in
bytes: the file is looked at byte by byte, and what is not ASCII is decoded as an entry of its own.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PART = 1 << 20  # bytes that are read at once
SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"[-+.eE0-9]*")  # what a number may go on with
DECODER = json.JSONDecoder()


class Entry(NamedTuple):
    """An entry of a list: its first byte, how many it has, and what it says."""

    start: int
    size: int
    value: Any


def open_json(path: Path) -> io.BufferedIOBase:
    """Open a JSON file in UTF-8; one of another encoding is recoded, and held."""
    file = path.open("rb")
    encoding = json.detect_encoding(file.read(4))
    file.seek(0)
    if encoding == "utf-8":
        return file
    with file:
        return io.BytesIO(file.read().decode(encoding, "surrogatepass").encode())


def read_entry(file: io.BufferedIOBase, start: int, size: int) -> Any:
    """Read an entry again."""
    file.seek(start)
    return json.loads(file.read(size))


def stream_lists(file: io.BufferedIOBase) -> Iterator[tuple[str, Iterator[Entry] | None]]:
    """Give the keys of the outermost object with the entries of its lists; None for what is none.

    Entries are read while they are asked for, those of a list before the next key.

    Raises:
        ValueError, RecursionError: where the file is no JSON, as far as it was read.
    """
    text = _Text(file)
    if text.find() != "{":
        text.decode()
    else:
        yield from _stream_object(text)
    if text.find():
        raise ValueError(f"extra data at byte {text.place}")


def stream_list(file: io.BufferedIOBase) -> Iterator[Entry]:
    """Give the entries of a file that is one list, while they are asked for.

    Raises:
        ValueError, RecursionError: where the file is no JSON, as far as it was read, or no list.
    """
    text = _Text(file)
    yield from _stream_list(text)
    if text.find():
        raise ValueError(f"extra data at byte {text.place}")


def _stream_object(text: _Text) -> Iterator[tuple[str, Iterator[Entry] | None]]:
    text.take("{")
    if text.find() == "}":
        text.take("}")
        return
    mark = ","
    while mark == ",":
        if text.find() != '"':
            raise ValueError(f"expected a name in double quotes at byte {text.place}")
        key = text.decode().value
        text.take(":")
        if text.find() == "[":
            yield key, (entries := _stream_list(text))
            for _ in entries:  # nobody asked for these
                pass
        else:
            text.decode()
            yield key, None
        mark = text.take(",}")


def _stream_list(text: _Text) -> Iterator[Entry]:
    text.take("[")
    if text.find() == "]":
        text.take("]")
        return
    mark = ","
    while mark == ",":
        yield text.decode()
        mark = text.take(",]")


class _Text:
    """A part of a file, a letter for each byte, and a place in it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file = file
        self.start, self.next = 0, 0  # of the part in the file, and of what comes next in the part
        self.part = ""

    @property
    def place(self) -> int:
        """Where in the file what comes next stands."""
        return self.start + self.next

    def find(self) -> str:
        """Go to the next letter that is no space and return it; nothing at the end."""
        while True:
            self.next = SPACE.match(self.part, self.next).end()  # type: ignore[union-attr]
            if self.next < len(self.part):
                return self.part[self.next]
            if not self._read():
                return ""

    def take(self, marks: str) -> str:
        """Go behind one of these marks; raises ValueError where none of them is next."""
        mark = self.find()
        if not mark or mark not in marks:
            raise ValueError(f"expected {' or '.join(marks)} at byte {self.place}")
        self.next += 1
        return mark

    def decode(self) -> Entry:
        """Decode what comes next, and go behind it; raises ValueError for what is no JSON."""
        self.find()
        while True:
            try:
                value, end = DECODER.raw_decode(self.part, self.next)
            except json.JSONDecodeError as error:
                if not self._read():
                    raise ValueError(f"{error.msg} at byte {self.start + error.pos}") from error
            else:
                goes_on = NUMBER.match(self.part, end).end() == len(self.part)  # type: ignore[union-attr]
                if not goes_on or not self._read():
                    break

        # what it says, of bytes that are not all letters
        start, written = self.place, self.part[self.next : end]
        self.next = end
        if not written.isascii():
            value = json.loads(written.encode("latin-1"))
        return Entry(start, len(written), value)

    def _read(self) -> bool:
        """Read on, as much again as is left of the part; say whether there was anything."""
        left = self.part[self.next :]
        if not (more := self.file.read(max(PART, len(left)))):
            return False
        self.start, self.next = self.place, 0
        self.part = left + more.decode("latin-1")
        return True
