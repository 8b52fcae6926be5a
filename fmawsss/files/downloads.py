"""Files of other projects: found in their folder, or fetched; a stopped download goes on."""

# Ours because torch.hub starts anew after a stop, huggingface_hub knows one server only, and
# pooch, one dependency more, starts anew, too.

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.progress import wrap_file

HUB = "https://huggingface.co"  # where most weights are published
TIMEOUT = 5  # seconds without any answer
CHUNK = 1 << 20
PARTIAL_CONTENT = 206  # the answer of a server that sends the rest only
NOTHING_LEFT = 416  # the answer to a request beyond the end of a file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """A file that a run reads: it is `there`, or has to be fetched; `size` in bytes, if known."""

    path: Path
    url: str
    size: int | None
    there: bool


class NotFetchedError(Exception):
    """A file is missing, and a plan fetches none: what needs it goes on with random weights."""


class _Planned:
    """What a plan found so far; None outside one."""

    files: list[Download] | None = None


@contextmanager
def plan_downloads() -> Iterator[list[Download]]:
    """List the files that are asked for meanwhile, and fetch none of them."""
    _Planned.files = []
    try:
        yield _Planned.files
    finally:
        _Planned.files = None


@dataclass(frozen=True)
class Published:
    """What is published about a file beside its address; None where it is not known."""

    size: int | None = None  # bytes
    md5: str | None = None
    sha256: str | None = None

    @property
    def is_known(self) -> bool:
        """Say whether anything tells the right file from another."""
        return any(value is not None for value in (self.size, self.md5, self.sha256))


def fetch_file(
    path: Path,
    url: str,
    sha256: str | None = None,
    *,
    md5: str | None = None,
    size: int | None = None,
    about: int | None = None,
    timeout: float = TIMEOUT,
) -> Path:
    """Return `path`, fetching it from `url` first if it is missing.

    What is published of the file is checked; without `sha256`, one that is part of the address.
    Then, too, a download that stopped is kept as `<name>.part` and goes on at the next call.
    `about` so many bytes are only told to a plan (`plan_downloads`), which raises NotFetchedError.

    Raises FileNotFoundError naming address and place when it cannot be fetched; this takes
    `timeout` seconds where there is no network.
    """
    there = path.is_file()
    if _Planned.files is not None:
        _Planned.files.append(Download(path, url, size or about, there))
    if there:
        return path
    if _Planned.files is not None:
        raise NotFetchedError(f"{path} would be fetched from {url}")
    if files := [folder for folder in path.parents if folder.is_file()]:
        raise FileNotFoundError(
            f"{path} is missing, and {files[0]} is a file where its folder should be: move that "
            "away, or name another folder (paths.weights=…)"
        )
    published = Published(size, md5, sha256 or find_digest(url))
    partial = path.with_name(f"{path.name}.part")
    try:
        _fetch(path, partial, url, published, timeout)
    except (OSError, ValueError) as error:
        kept = "; what has arrived is kept" if partial.is_file() else ""
        raise FileNotFoundError(
            f"{path} is missing and cannot be fetched ({error}): download {url} and put it there, "
            f"or run this again where there is a network{kept}"
        ) from error
    return path


def find_digest(url: str) -> str | None:
    """Return the SHA-256 that is part of an address, if one is."""
    found = re.search(r"/([0-9a-f]{64})/", url)
    return found and found.group(1)


def find_fault(path: Path, published: Published) -> str | None:
    """Say in what a file differs from what is published of it; None when it does not."""
    size = path.stat().st_size
    if published.size not in (None, size):
        return f"it has {size} bytes, expected {published.size}"
    for name, expected in (("MD5", published.md5), ("SHA-256", published.sha256)):
        if expected is None:
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, name.replace("-", "").lower()).hexdigest()
        if found != expected:
            return f"it has the {name} {found}, expected {expected}"
    return None


def _fetch(path: Path, partial: Path, url: str, published: Published, timeout: float) -> None:
    """Fetch what `partial` lacks and make it `path`; another file is not kept."""
    # without anything published nothing tells whether the rest belongs to the same file
    goes_on = published.is_known and partial.is_file()
    known = partial.stat().st_size if goes_on else 0

    # ask before any folder is made
    with _request(url, known, timeout) as answer:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _wait_for_others(path):
            if path.is_file():  # another process fetched it meanwhile
                return
            try:
                write_rest(partial, answer, known)
                _check(partial, published)
                partial.replace(path)
            finally:
                if not published.is_known:
                    partial.unlink(missing_ok=True)


def _request(url: str, known: int, timeout: float) -> Any:
    """Ask a server for all bytes of a file but the `known` first ones."""
    request = Request(url, headers={"Range": f"bytes={known}-"} if known else {})
    try:
        return urlopen(request, timeout=timeout)
    except HTTPError as error:
        if error.code == NOTHING_LEFT and known:
            return error
        raise


@contextmanager
def _wait_for_others(path: Path) -> Iterator[None]:
    """Let one process at a time write a file."""
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def write_rest(partial: Path, answer: Any, known: int) -> None:
    """Write what a server sends after the `known` first bytes; raise OSError if some is missing."""
    # say how much there is
    if answer.status == NOTHING_LEFT:
        return
    known = known if answer.status == PARTIAL_CONTENT else 0  # without ranges all comes again
    rest = int(answer.headers["Content-Length"] or 0)
    size = f"{rest / 1e6:.1f} MB" if rest else "of unknown size"
    logger.info("fetching %s to %s from byte %d on (%s)", answer.url, partial, known, size)

    # copy it
    with (
        wrap_file(answer, rest, description=partial.stem) as source,
        partial.open("r+b" if known else "wb") as file,
    ):
        file.seek(known)
        shutil.copyfileobj(source, file, CHUNK)
        found = file.tell()
    if found < known + rest:
        raise OSError(f"the connection ended after {found} of {known + rest} bytes")


def _check(partial: Path, published: Published) -> None:
    """Delete a file that is not the published one, and raise ValueError."""
    fault = find_fault(partial, published)
    if fault is not None:
        partial.unlink()
        raise ValueError(fault)
