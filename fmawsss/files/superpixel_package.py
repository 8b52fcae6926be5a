"""Superpixels that travel: one tar archive of all files of a product, read once from its beginning.

`superpixels.tar` holds `package.json` (format, settings that made them, their fingerprint),
`images.jsonl` (a line per image: its name, what its file was, the digest of its superpixels, facts
of them), and `<name>.npz` of each image in that order. Nothing is unpacked by its name.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from fmawsss.files.contents import read_notes
from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.journals import read_lines
from fmawsss.files.json_files import many_objects, parse_line
from fmawsss.files.products import read_record, require_unchanged

PACKAGE = "superpixels.tar"
FORMAT, VERSION = "fmawsss superpixels package", 1
ABOUT, IMAGES = "package.json", "images.jsonl"
MOST_BYTES = 1 << 30  # of one file in a package
DIGEST = re.compile("[0-9a-f]{16}")
STAMP = ("bytes", "sha256", "read_by")  # what another machine knows of an image's file, too
BROKEN = (tarfile.TarError, EOFError)
MAKE = "make it with `python infer.py task=superpixels`"
AGAIN = "fetch it again, or have it written again by `python infer.py task=export`"


@dataclass(frozen=True)
class Entry:
    """What a package says of an image.

    image: its file, as `stamp_image` says it, without the time. size, digest: of the archive with
    its superpixels. facts: what `describe_superpixels` counted.
    """

    name: str
    image: Mapping[str, int | str]
    size: int
    digest: str
    facts: Mapping[str, Any]

    def write(self) -> bytes:
        """Write the entry as a line."""
        return (json.dumps(vars(self), ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Package:
    """An open package: its record, as beside a product, what it holds, and the files to read."""

    path: Path
    record: Mapping[str, Any]
    entries: list[Entry]
    archive: tarfile.TarFile

    def read_files(self) -> Iterator[tuple[Entry, bytes]]:
        """Read the file of each image in turn; raises ValueError for what is not as it was."""
        for number, entry in enumerate(self.entries):
            with name_package(self.path, f"after {number} of {len(self.entries)} images"):
                data = read_next(self.archive, f"{entry.name}.npz", entry.size)
                if digest(data) != entry.digest or len(data) != entry.size:
                    raise ValueError(f"{entry.name}.npz is not what was packed")
            yield entry, data
        with name_package(self.path, "at its end"):
            if self.archive.next() is not None:
                raise ValueError(f"it holds more than {IMAGES} names")


@many_objects()
def list_entries(product: Path) -> list[Entry]:
    """List what a package of a product holds.

    Raises:
        FileNotFoundError: without superpixels of ours.
        ProductMismatch: for files that were changed since they were made.
        ValueError: for images that nothing is known of.
    """
    if not product.is_dir() or read_record(product) is None:
        raise FileNotFoundError(
            f"{product} holds no superpixels that were made here: {MAKE}, or name others with "
            "job.superpixels=DIR"
        )
    require_unchanged(product)
    lines, notes = read_lines(product), read_notes(product)
    entries = []
    for file in sorted(name for name in notes if name.endswith(".npz")):
        name, line = file.removesuffix(".npz"), lines.get(file.removesuffix(".npz"), {})
        if "image_stamp" not in line or "superpixels" not in line:
            raise ValueError(f"{product}: its journal does not know {name}: {MAKE} overwrite=true")
        stamp = {key: line["image_stamp"][key] for key in STAMP if key in line["image_stamp"]}
        known = notes[file]
        entries.append(Entry(name, stamp, known.size, known.digest, line["superpixels"]))
    if not entries:
        raise FileNotFoundError(f"{product} is not finished for any split: {MAKE}")
    return entries


def write_package(product: Path, entries: list[Entry], file: IO[bytes]) -> None:
    """Write superpixels as a package: the same ones give the same bytes.

    Raises:
        ValueError: for a file that does not hold what was noted of it.
    """
    record = read_record(product)
    assert record is not None  # `list_entries` asked for it
    index = b"".join(entry.write() for entry in entries)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": record["fingerprint"],
        "settings": record["settings"],
        "images": {"count": len(entries), "bytes": len(index), "digest": digest(index)},
    }
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        add_file(archive, ABOUT, json.dumps(about, indent=1).encode())
        add_file(archive, IMAGES, index)
        for entry in entries:
            path = product / f"{entry.name}.npz"
            data = path.read_bytes()
            if digest(data) != entry.digest:
                raise ValueError(f"{path} is not what was noted of it: {MAKE} overwrite=true")
            add_file(archive, path.relative_to(product).as_posix(), data)


def add_file(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without time and owner."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
    forget_members(archive)


def forget_members(archive: tarfile.TarFile) -> None:
    """Let an archive forget the files that went by: it keeps a kilobyte of each, and never asks.

    Nothing public does so before Python 3.13.
    """
    archive.members.clear()  # type: ignore[attr-defined]


@contextmanager
def open_package(path: Path) -> Iterator[Package]:
    """Open a package and read what it holds.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for another kind of file, or one that is not whole.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no package {path}: correct the path")
    with path.open("rb") as file, ExitStack() as opened:
        with name_package(path, "at its beginning"):
            archive = opened.enter_context(tarfile.open(fileobj=file, mode="r|"))
            about = read_about(read_next(archive, ABOUT))
            index = read_next(archive, IMAGES, about["images"]["bytes"])
            if digest(index) != about["images"]["digest"]:
                raise ValueError(f"{IMAGES} is not what was packed")
            entries = read_entries(index)
        record = {key: about[key] for key in ("fingerprint", "settings")}
        yield Package(path, record, entries, archive)


@contextmanager
def name_package(path: Path, place: str) -> Iterator[None]:
    """Let errors of a package say which file it is, and what to do."""
    try:
        yield
    except BROKEN:
        raise ValueError(
            f"{path} is no package of superpixels, or cut off {place}: {AGAIN}"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}: {AGAIN}") from error


def read_next(archive: tarfile.TarFile, name: str, size: int | None = None) -> bytes:
    """Read the next file of an archive, which has to be this one.

    Raises:
        EOFError: behind the last one.
        ValueError: for another one, or one that is larger than it may be.
    """
    member = archive.next()
    forget_members(archive)
    if member is None:
        raise EOFError
    if member.name != name or not member.isreg() or member.size > MOST_BYTES:
        raise ValueError(f"it holds {member.name!r} of {member.size} bytes in place of {name}")
    if size is not None and member.size != size:
        raise ValueError(f"{name} has {member.size} bytes, expected {size}")
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def read_about(data: bytes) -> dict[str, Any]:
    """Read what a package says of itself; raises ValueError unless its settings are its own."""
    about = json.loads(data)
    found = (about["format"], about["version"])
    if found != (FORMAT, VERSION):
        raise ValueError(f"it is {found[0]!r} version {found[1]}, expected {FORMAT!r} {VERSION}")
    made = fingerprint({"settings": about["settings"], "upstream": {}})
    if about["fingerprint"] != made:
        raise ValueError("its settings are not those that its superpixels were made with")
    return dict(about)


def read_entries(index: bytes) -> list[Entry]:
    """Read the lines about images; raises ValueError for one that says something else."""
    entries, seen = [], set()
    for number, line in enumerate(index.decode().splitlines(), 1):
        found = parse_line(line)
        try:
            entry = Entry(**found)
            check_entry(entry)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"line {number} of {IMAGES} is none about an image") from error
        if entry.name in seen:
            raise ValueError(f"line {number} of {IMAGES} names an image twice")
        seen.add(entry.name)
        entries.append(entry)
    return entries


def check_entry(entry: Entry) -> None:
    """Raise an error for an entry whose values are none."""
    levels, covered = entry.facts["levels"], entry.facts["covered"]
    median = entry.facts["median_area"]
    texts = (entry.name, entry.digest, entry.image["sha256"])
    numbers = (entry.size, entry.image["bytes"], entry.image.get("read_by", 0), *levels)
    shares = (covered, 0 if median is None else median)
    good = (
        all(isinstance(text, str) for text in texts)
        and all(type(value) is int and value >= 0 for value in numbers)
        and all(type(value) in (int, float) and 0 <= value <= 1 for value in shares)
        and len(levels) == 3
        and set(entry.facts) == {"levels", "covered", "median_area"}
        and set(entry.image) <= set(STAMP)
        and all(DIGEST.fullmatch(str(text)) for text in texts[1:])
    )
    if not good:
        raise ValueError


def digest(data: bytes) -> str:
    """Digest bytes as `digest_file` does a file."""
    return sha256(data).hexdigest()[:16]
