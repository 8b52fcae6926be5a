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
from fmawsss.files.writing import Writes, replace_file

logger = logging.getLogger(__name__)

VERSION = 1
KINDS = ("image", "mask", "archive")
BITS = {kind: 1 << index for index, kind in enumerate(KINDS)}
THREADS = 16  # a network answers many questions at once
AT_ONCE = 500  # files of a thread's task
QUIET = 5.0  # seconds before progress is told, and between two lines
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


class Known(NamedTuple):
    """All that a listing holds of a file: its fact, as what it was good, and when it was asked for.

    good: a bit for each of `KINDS`. asked: the turn (`Listing.forget`) in which it was asked for.
    """

    size: int
    modified: int
    height: int
    width: int
    good: int
    asked: int


KNOWN = Struct("<2q2IBI")  # as bytes, it takes a fifth of the memory
LIMITS = (1 << 62, 1 << 62, 1 << 32, 1 << 32)  # of the numbers of a fact
Files = dict[str, dict[str, bytes]]  # by folder and name


class Listing:
    """What is known of files; `remembers` says whether stamps are believed, `path` keeps facts."""

    def __init__(self, path: Path | None = None, remembers: bool = False) -> None:
        self.path = path
        self._files: Files = (None if path is None else read_facts(path)) or {}
        self.remembers = remembers
        self.changed = False
        self._turn = 0
        self.forget()

    def forget(self) -> None:
        """Ask again for every file."""
        self._turn += 1
        self._compared: set[str] = set()
        self._read: dict[Hashable, tuple[int, Any]] = {}

    def save(self) -> None:
        """Keep what was found for later runs, in a folder that is there and may be written."""
        if self.changed and self.path is not None and self.path.parent.is_dir():
            with suppress(OSError):  # the next run looks again
                write_facts(self.path, self._files)
            self.changed = False

    def ask(self, path: Path | str) -> Stamp:
        """Return the stamp of a file; raises ValueError for a pipe, OSError for none."""
        folder, name = split_path(path)
        known = self._hold(folder, name)
        if known is not None and known.asked == self._turn:
            return Stamp(known.size, known.modified)
        status = os.stat(path)  # noqa: PTH116
        if not S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no file to read: take it away")
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        if self.remembers:
            found = known if known is not None and known[:2] == stamp else Known(*stamp, 0, 0, 0, 0)
            self._keep(folder, name, found._replace(asked=self._turn))
        return stamp

    def recall(self, kind: Kind, path: Path | str, stamp: Stamp) -> Fact | None:
        """Return what was found in a file, unless it is another one since."""
        known = self._hold(*split_path(path))
        if known is None or known[:2] != stamp or not known.good & BITS[kind]:
            return None
        return Fact(*known[:4])

    def note(self, kind: Kind, path: Path | str, fact: Fact) -> Fact:
        """Remember what was found in a file."""
        folder, name = split_path(path)
        known = self._hold(folder, name)
        if known is None or known[:2] != fact[:2]:
            known = Known(*fact, 0, 0)
        height, width = fact.height or known.height, fact.width or known.width
        good = known.good | BITS[kind]
        self._keep(folder, name, known._replace(height=height, width=width, good=good))
        self.changed = True
        return fact

    def _hold(self, folder: str, name: str) -> Known | None:
        names = self._files.get(folder)
        held = None if names is None else names.get(name)
        return None if held is None else Known(*KNOWN.unpack(held))

    def _keep(self, folder: str, name: str, known: Known) -> None:
        self._files.setdefault(folder, {})[name] = KNOWN.pack(*known)

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
def read_facts(path: Path) -> Files | None:
    """Read a listing; None without one, or for one that is not as this module writes it."""
    try:
        held = json.loads(path.read_bytes())
        if not isinstance(held, dict) or held.pop("version", None) != VERSION:
            return None
        if set(held) != set(KINDS):
            return None
        files: Files = {}
        for kind, folders in held.items():
            for folder, rows in folders.items():
                read_folder(rows, BITS[kind], files.setdefault(folder, {}))
        return files
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def read_folder(rows: dict[str, Any], bit: int, names: dict[str, bytes]) -> None:
    """Enter what is known of a folder's files; raises ValueError or TypeError for the rest."""
    for name, row in rows.items():
        for number, limit in zip(row, LIMITS, strict=True):
            if type(number) is not int or not 0 <= number < limit:
                raise ValueError("no number of a listing")
        other = Known(*KNOWN.unpack(names[name])).good if name in names else 0
        names[name] = KNOWN.pack(*row, other | bit, 0)


def write_facts(path: Path, files: Files) -> None:
    """Write a listing, without folders that are gone, a folder at a time."""
    there = [folder for folder in files if Path(folder).is_dir()]
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"version": {VERSION}')
        for kind, bit in BITS.items():
            file.write(f', "{kind}": {{')
            separator = ""
            for folder in there:
                if rows := list_rows(files[folder], bit):
                    file.write(f"{separator}{json.dumps(folder)}: {json.dumps(rows)}")
                    separator = ", "
            file.write("}")
        file.write("}")


def list_rows(names: dict[str, bytes], bit: int) -> dict[str, tuple[int, ...]]:
    """List the facts of a folder's files that were found good as one kind."""
    known = {name: Known(*KNOWN.unpack(held)) for name, held in names.items()}
    return {name: tuple(held[:4]) for name, held in known.items() if held.good & bit}


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
