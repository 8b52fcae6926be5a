"""What the files of a product held when it was finished: a note of each, in one file beside it.

`<product>.files.jsonl` has a line per file, `["name", bytes, time, "digest"]`. Later a file is read
again only where its size or time differs, as in a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fmawsss.files.json_files import many_objects, parse_line
from fmawsss.files.listing import Stamp, current, stamp_files
from fmawsss.files.writing import write_bytes

ENDS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}  # no pixels look like these
TAIL = 64  # bytes; some programs write a few behind the end
ARCHIVES = (".npz", ".ckpt")


class Note(NamedTuple):
    """Size, time of change in nanoseconds, and digest of a file."""

    size: int
    modified: int
    digest: str


@dataclass
class Changes:
    """Names of files that are not as they were noted.

    lost: are no longer there. damaged: are empty or cut off, noted or not. edited: hold something
    else.
    """

    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)


def place_notes(product: Path) -> Path:
    """Name the file of notes beside a product."""
    return product.with_name(f"{product.name}.files.jsonl")


@many_objects()
def read_notes(product: Path) -> dict[str, Note]:
    """Read the notes of a product, by the names of its files; none of a product without them.

    A line that cannot be read says nothing of its file.
    """
    notes = {}
    with suppress(FileNotFoundError):
        for line in place_notes(product).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                name, *note = parse_line(line)
                notes[name] = Note(*note)
    return notes


def write_notes(product: Path, notes: Mapping[str, Note]) -> None:
    """Write the notes of a product."""
    lines = [json.dumps([name, *notes[name]], ensure_ascii=False) for name in sorted(notes)]
    write_bytes(place_notes(product), "".join(f"{line}\n" for line in lines).encode())


def note_files(product: Path, images: Container[str]) -> None:
    """Note what a product holds of some images, beside what is known of others."""
    notes = read_notes(product)
    for name, stamp in list_files(product).items():
        known = notes.get(name)
        asked = not product.is_dir() or name.rpartition(".")[0] in images
        if asked and (known is None or known[:2] != stamp):
            notes[name] = Note(*stamp, digest_file(place_file(product, name)))
    write_notes(product, notes)


def drop_notes(product: Path, images: Container[str]) -> None:
    """Forget what a product held of some images, which are made anew."""
    notes = read_notes(product)
    kept = {name: note for name, note in notes.items() if name.rpartition(".")[0] not in images}
    if len(kept) < len(notes):
        write_notes(product, kept)


def find_changes(product: Path, unknown: bool) -> Changes:
    """Compare the files of a product with their notes; equal files with another time are noted.

    unknown: look at the end of files without a note, too.
    """
    notes, files, changes = read_notes(product), list_files(product), Changes()
    changes.lost = [name for name in notes if name not in files]
    renewed = {}
    for name, stamp in files.items():
        known = notes.get(name)
        if (known is None and not unknown) or (known and known[:2] == stamp):
            continue
        path = place_file(product, name)
        if is_damaged(path, stamp.size):
            changes.damaged.append(name)
        elif known is not None:
            renewed[name] = Note(*stamp, digest_file(path))

    # A copy has other times
    changes.edited = [name for name, note in renewed.items() if note.digest != notes[name].digest]
    same = {name: note for name, note in renewed.items() if name not in changes.edited}
    if same:
        with suppress(OSError):  # the next run compares again
            write_notes(product, {**notes, **same})
    return changes


def list_files(product: Path) -> dict[str, Stamp]:
    """List the files of a product by their path below it; a product that is a file has its own."""
    if product.is_file():
        return {product.name: current().ask(product)}
    found: list[str] = []
    folders = [product] if product.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as scanned:
            entries = {entry.name: entry for entry in scanned}
        for name, entry in entries.items():
            if name.startswith("."):
                continue
            if entry.is_file():
                found.append(entry.path)
            elif entry.is_dir() and f"{name}.json" not in entries:  # a product of its own
                folders.append(Path(entry.path))
    start = len(os.path.join(product, ""))  # noqa: PTH118
    return {path[start:]: stamp for path, stamp in zip(found, stamp_files(found), strict=True)}


class Made:
    """The files of a folder by their paths without suffix, listed once and not asked for each.

    A file that appears later is found, too; for one that goes away, build another.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self.suffix = suffix

    def __contains__(self, name: str) -> bool:
        return f"{name}{self.suffix}" in self._listed or self.place(name).is_file()

    def place(self, name: str) -> Path:
        """Return the path of a file."""
        return self.folder / f"{name}{self.suffix}"

    @cached_property
    def _listed(self) -> set[str]:
        found: set[str] = set()
        left = [os.fspath(self.folder)]
        start = len(os.path.join(left[0], ""))  # noqa: PTH118
        while left:
            with suppress(OSError), os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        found.add(entry.path[start:])
        return found


def find_own(path: Path) -> Iterator[Path]:
    """Give what is there of a product: a file, or what its folder holds but products within it."""
    if path.is_file():
        yield path
    if path.is_dir():
        inner = "|".join(map(re.escape, list_inner(path)))
        beside = re.compile(rf"\.?({inner})(\..*(jsonl?|lock))?")
        yield from (entry for entry in path.iterdir() if not beside.fullmatch(entry.name))


def list_inner(path: Path) -> list[str]:
    """List the names of products within a product: folders with a record beside them."""
    records = path.glob("*.json") if path.is_dir() else ()
    return sorted(record.stem for record in records if (path / record.stem).is_dir())


def place_file(product: Path, name: str) -> Path:
    """Return the path of a file of a product."""
    return product / name if product.is_dir() else product


def digest_file(path: Path) -> str:
    """Digest the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def is_damaged(path: Path, size: int) -> bool:
    """Say whether a file is empty or cut off, by its end alone."""
    suffix = path.suffix.lower()
    if not size:
        return True
    if suffix in ARCHIVES:
        return not zipfile.is_zipfile(path)
    return suffix in ENDS and not has_end(path, size)


def has_end(path: Path, size: int) -> bool:
    """Say whether a picture has the mark that ends it."""
    with path.open("rb") as file:
        file.seek(max(size - TAIL, 0))
        return ENDS[path.suffix.lower()] in file.read()
