"""The files of a correction: one, a folder or a zip archive; nothing is unpacked by its name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

MOST_BYTES = 1 << 32  # of a file in an archive
MOST_MEMBERS = 1 << 20
PART = 1 << 20  # bytes that are copied at once


@dataclass(frozen=True)
class Source:
    """Files by their path below a folder, in an archive, or one alone.

    scratch: a folder for files of an archive that are read from a disk.
    """

    path: Path
    members: dict[str, Path | zipfile.ZipInfo]
    archive: zipfile.ZipFile | None
    scratch: Path

    def find(self, *endings: str) -> list[str]:
        """List the files with one of these endings, in order."""
        return sorted(name for name in self.members if name.lower().endswith(endings))

    def read(self, name: str, most: int) -> bytes:
        """Read a file; raises ValueError for one of more than `most` bytes."""
        with self.open(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"{name} has more than {most} bytes")
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file to be read from its beginning to its end."""
        member = self.members[name]
        if isinstance(member, Path):
            with member.open("rb") as file:
                yield file
            return
        assert self.archive is not None
        try:
            with self.archive.open(member) as entry:
                yield io.BufferedReader(entry)  # type: ignore[arg-type]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"{name} in {self.path} cannot be read ({error})") from error

    def place(self, name: str) -> Path:
        """Return a file on disk; one of an archive is copied.

        Raises ValueError for one that is larger than it may be.
        """
        member = self.members[name]
        if isinstance(member, Path):
            return member
        copy, left = self.scratch / Path(name).name, MOST_BYTES
        with self.open(name) as file, copy.open("wb") as target:
            while part := file.read(PART):
                left -= len(part)
                if left < 0:
                    raise ValueError(f"{name} in {self.path} has more than {MOST_BYTES} bytes")
                target.write(part)
        return copy


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file, a folder or an archive of corrections.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: for an archive that is broken, or protected by a password.
    """
    with TemporaryDirectory(prefix="fmawsss-", ignore_cleanup_errors=True) as scratch:
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file())
            found = {file.relative_to(path).as_posix(): file for file in files}
            yield Source(path, {**found}, None, Path(scratch))
        elif not path.is_file():
            raise FileNotFoundError(
                f"corrected={path} does not exist: name the file, folder or zip archive that CVAT, "
                "Label Studio or another tool exported"
            )
        elif zipfile.is_zipfile(path):
            with open_zip(path) as archive:
                yield Source(path, list_members(path, archive), archive, Path(scratch))
        else:
            yield Source(path, {path.name: path}, None, Path(scratch))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive; raises ValueError for a broken one."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no whole zip archive ({error}): export it again") from error


def list_members(path: Path, archive: zipfile.ZipFile) -> dict[str, Path | zipfile.ZipInfo]:
    """List the files of an archive; raises ValueError for one that nobody can read."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MOST_MEMBERS:
        raise ValueError(f"{path} holds {len(infos)} files, expected at most {MOST_MEMBERS}")
    if any(info.flag_bits & 1 for info in infos):
        raise ValueError(f"{path} is protected by a password: export it without one")
    return {info.filename: info for info in infos if not info.filename.startswith("__MACOSX/")}
