"""Official archives: fetched where the network allows, checked, unpacked whole."""

from __future__ import annotations

import logging
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fmawsss.files.downloads import Published, fetch_file, find_fault

ARCHIVE_TIMEOUT = 20  # seconds without any answer: the official servers are slow
BROKEN = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """A file of an official data set, and what is published of it; None where nothing is."""

    url: str
    size: int | None  # bytes
    md5: str | None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Return the checked archive in `folder`; fetch it, or the rest of it, unless it lies there.

    Raises FileNotFoundError naming address and place when it cannot be fetched, ValueError when
    another file lies there.
    """
    path = folder / archive.name
    if not path.is_file():
        return fetch_file(
            path, archive.url, md5=archive.md5, size=archive.size, timeout=ARCHIVE_TIMEOUT
        )
    fault = find_fault(path, Published(archive.size, archive.md5))
    if fault is not None:
        raise ValueError(
            f"{path} is another archive ({fault}): delete it and fetch {archive.url} again"
        )
    return path


def unpack_folder(path: Path, inner: str, target: Path) -> None:
    """Unpack the folder `inner` of an archive as `target`, which appears whole or not at all."""
    logger.info("unpacking %s to %s", path, target)
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
