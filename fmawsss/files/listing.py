"""What a run knows of the files that it reads: each is asked for once, and opened once.

Size and time of change of a file are believed until the run (`open_listing`) has trained, predicted
or removed something (`Listing.forget`). What was found good in a file, and how large its picture
is, is believed as long as these two stay the same, by later runs as well: they find it in a file,
`{"version": 1, "image": {folder: {name: [bytes, nanoseconds, height, width]}}, "mask": …}`, a
height and width of 0 where they were not asked for.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from struct import Struct
from typing import Any, Literal, NamedTuple, TypeVar

from fmawsss.files.json_files import many_objects
from fmawsss.files.writing import Writes, write_bytes

logger = logging.getLogger(__name__)

VERSION = 1
KINDS = ("image", "mask", "archive")
THREADS = 16  # a network answers many questions at once
AT_ONCE = 500  # files of a thread's task
QUIET = 5.0  # seconds before progress is told, and between two lines
LARGEST = 1 << 62  # of a number in a listing
Kind = Literal["image", "mask", "archive"]
Item = TypeVar("Item")
Found = TypeVar("Found")


class Stamp(NamedTuple):
    """Size in bytes and time of change in nanoseconds: another file has others."""

    size: int
    modified: int

    def __str__(self) -> str:
        return f"{self.size}-{self.modified}"


class Fact(NamedTuple):
    """What was found in a good file of these stamps; a height and width of 0 are not known."""

    size: int
    modified: int
    height: int
    width: int


STAMP, FACT = Struct("<2q"), Struct("<4q")  # as bytes, they take a third of the memory
Facts = dict[str, dict[str, dict[str, bytes]]]  # by kind, folder and name


class Listing:
    """What is known of files; `remembers` says whether stamps are believed, `path` keeps facts."""

    def __init__(self, path: Path | None = None, remembers: bool = False) -> None:
        self.path = path
        found = None if path is None else read_facts(path)
        self.facts: Facts = found or {kind: {} for kind in KINDS}
        self.remembers = remembers
        self.changed = False
        self.forget()

    def forget(self) -> None:
        """Ask again for every file."""
        self._stamps: dict[str, bytes] = {}
        self._compared: set[str] = set()
        self._read: dict[Hashable, tuple[int, Any]] = {}

    def save(self) -> None:
        """Keep what was found for later runs, in a folder that is there and may be written."""
        if self.changed and self.path is not None and self.path.parent.is_dir():
            with suppress(OSError):  # the next run looks again
                write_facts(self.path, self.facts)
            self.changed = False

    def ask(self, path: Path | str) -> Stamp:
        """Return the stamp of a file; raises ValueError for a pipe, OSError for none."""
        name = os.fspath(path)
        if (known := self._stamps.get(name)) is not None:
            return Stamp(*STAMP.unpack(known))
        status = os.stat(name)  # noqa: PTH116
        if not S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no file to read: take it away")
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        if self.remembers:
            self._stamps[name] = STAMP.pack(*stamp)
        return stamp

    def recall(self, kind: Kind, path: Path | str, stamp: Stamp) -> Fact | None:
        """Return what was found in a file, unless it is another one since."""
        folder, name = split_path(path)
        known = self.facts[kind].get(folder, {}).get(name)
        if known is None or known[: STAMP.size] != STAMP.pack(*stamp):
            return None
        return Fact(*FACT.unpack(known))

    def note(self, kind: Kind, path: Path | str, fact: Fact) -> Fact:
        """Remember what was found in a file."""
        folder, name = split_path(path)
        self.facts[kind].setdefault(folder, {})[name] = FACT.pack(*fact)
        self.changed = True
        return fact

    def read_once(self, key: Hashable, read: Callable[[], Found]) -> Found:
        """Return what was read under a key before, unless this process wrote a file since."""
        known = self._read.get(key)
        if known is not None and known[0] == Writes.done:
            return known[1]
        with many_objects():
            found = read()
        if self.remembers:
            self._read[key] = Writes.done, found
        return found

    def note_compared(self, product: Path) -> None:
        """Remember that a product holds what its notes say."""
        if self.remembers:
            self._compared.add(os.fspath(product))

    def is_compared(self, product: Path) -> bool:
        """Say whether a product was compared with its notes, and nothing was made since."""
        return os.fspath(product) in self._compared


class _Current:
    """The listing of the run in progress, or one that believes no stamp."""

    listing = Listing()


def current() -> Listing:
    """Return what is known now."""
    return _Current.listing


@contextmanager
def open_listing(path: Path | None, remembers: bool = True) -> Iterator[None]:
    """Know, for the length of a run, what the runs before found; keep what is new there, too."""
    before = _Current.listing
    _Current.listing = Listing(path, remembers)
    try:
        yield
    finally:
        _Current.listing.save()
        _Current.listing = before


@many_objects()
def read_facts(path: Path) -> Facts | None:
    """Read a listing; None without one, or for one that is not as this module writes it."""
    try:
        held = json.loads(path.read_bytes())
        if not isinstance(held, dict) or held.pop("version", None) != VERSION:
            return None
        if set(held) != set(KINDS):
            return None
        return {kind: {f: read_folder(n) for f, n in held[kind].items()} for kind in KINDS}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def read_folder(rows: dict[str, Any]) -> dict[str, bytes]:
    """Read what is known of the files of a folder; raises ValueError or TypeError for the rest."""
    for row in rows.values():
        for number in row:
            if type(number) is not int or not 0 <= number < LARGEST:
                raise ValueError("no number of a listing")
    return {name: FACT.pack(*Fact(*row)) for name, row in rows.items()}


def write_facts(path: Path, facts: Facts) -> None:
    """Write a listing, without folders that are gone."""
    kept = {
        kind: {
            folder: {name: FACT.unpack(fact) for name, fact in names.items()}
            for folder, names in folders.items()
            if Path(folder).is_dir()
        }
        for kind, folders in facts.items()
    }
    write_bytes(path, json.dumps({"version": VERSION, **kept}).encode())


def split_path(path: Path | str) -> tuple[str, str]:
    """Split a path into the absolute path of its folder, and its name."""
    folder, name = os.path.split(path)
    return folder if os.path.isabs(folder) else os.path.abspath(folder), name  # noqa: PTH100, PTH117


def stamp_files(paths: Sequence[Path | str]) -> list[Stamp]:
    """Return the stamps of files, many at once; raises what `Listing.ask` does."""
    return work_in_parts(current().ask, paths, "looked at")


def work_in_parts(work: Callable[[Item], Found], items: Sequence[Item], done: str) -> list[Found]:
    """Work on many files in threads, a part at a time; tell how far it is when that takes long."""
    if len(items) <= 1:
        return [work(item) for item in items]
    parts = [items[first : first + AT_ONCE] for first in range(0, len(items), AT_ONCE)]
    found: list[Found] = []
    told = time.monotonic()
    with ThreadPoolExecutor(min(THREADS, len(parts))) as pool:
        for part in pool.map(lambda part: [work(item) for item in part], parts):
            found += part
            if time.monotonic() - told > QUIET:
                told = time.monotonic()
                logger.info("%d of %d files %s", len(found), len(items), done)
    return found
