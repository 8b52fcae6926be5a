"""Official archives: fetched where the network allows, resumed where a download stopped, checked,
unpacked whole.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.progress import wrap_file

PATIENCE = 20  # seconds without any answer
CHUNK = 1 << 20
NOTHING_LEFT = 416  # the server's answer to a request beyond the end of a file
BROKEN = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A file of an official data set: where it lies, and its size in bytes and MD5 where they are
    known.
    """

    url: str
    size: int | None
    md5: str | None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Return the checked archive in `folder`; fetch it first, or the rest of it, unless it lies
    there.

    Raises FileNotFoundError naming address and place when it cannot be fetched, ValueError when it
    is another file.
    """
    path = folder / archive.name
    if path.is_file():
        check_archive(path, archive)
        return path
    partial = path.with_name(f"{path.name}.part")
    try:
        download(archive.url, partial)
    except OSError as error:
        raise FileNotFoundError(
            f"no archive {path}, and it cannot be fetched ({error}): download {archive.url} and "
            "put it there, "
            "or run this again where there is a network; what has arrived is kept"
        ) from error
    check_archive(partial, archive)
    return partial.replace(path)


def download(url: str, partial: Path) -> None:
    """Append to `partial` what it lacks of a file; raises OSError when less arrives than was
    promised.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    known = partial.stat().st_size if partial.is_file() else 0
    log.info("fetching %s to %s%s", url, partial, f", from byte {known}" if known else "")
    try:
        answer = urlopen(
            Request(url, headers={"Range": f"bytes={known}-"} if known else {}), timeout=PATIENCE
        )
    except HTTPError as error:
        if error.code == NOTHING_LEFT and known:
            return
        raise
    known = known if answer.status == 206 else 0  # a server without ranges starts anew
    rest = int(answer.headers["Content-Length"] or 0)
    with (
        wrap_file(answer, rest, description=partial.stem) as source,
        partial.open("ab" if known else "wb") as file,
    ):
        shutil.copyfileobj(source, file, CHUNK)
    expected, found = known + rest, partial.stat().st_size
    if found < expected:
        raise OSError(f"the connection ended after {found} of {expected} bytes")


def check_archive(path: Path, archive: Archive) -> None:
    """Raise ValueError unless a file has the published size and checksum."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        raise ValueError(
            f"{path} has {size} bytes, expected {archive.size}: delete it and fetch {archive.url} "
            "again"
        )
    if archive.md5 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise ValueError(
            f"{path} has the MD5 {found}, expected {archive.md5}: delete it and fetch "
            f"{archive.url} again"
        )


def unpack_folder(path: Path, inner: str, target: Path) -> None:
    """Unpack an archive and keep its folder `inner` as `target`, which appears whole or not at all."""
    log.info("unpacking %s to %s", path, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        try:
            _extract(path, temporary)
        except BROKEN as error:
            raise ValueError(
                f"{path} cannot be unpacked ({error}): delete it and fetch it again"
            ) from error
        if not (Path(temporary) / inner).is_dir():
            raise ValueError(
                f"{path} holds no folder {inner}: it is another archive; delete it and fetch it "
                "again"
            )
        (Path(temporary) / inner).replace(target)


def _extract(path: Path, folder: str) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
