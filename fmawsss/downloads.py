"""Published weights: found in their folder, or fetched into it when the network allows."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path
from urllib.request import urlopen

from fmawsss.storage import replace_file

PATIENCE = 5  # seconds without any answer

log = logging.getLogger(__name__)


def fetch_file(path: Path, url: str) -> Path:
    """Return `path`, fetching it from `url` first if it is missing; a SHA-256 that the address names is checked.

    Raises FileNotFoundError naming both when it cannot be fetched; this takes seconds where there is no network.
    """
    if path.is_file():
        return path
    log.info("fetching %s to %s", url, path)
    try:
        with urlopen(url, timeout=PATIENCE) as answer, replace_file(path) as temporary:
            with temporary.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            expected, found = int(answer.headers["Content-Length"] or 0), temporary.stat().st_size
            if found < expected:
                raise OSError(f"the connection ended after {found} of {expected} bytes")
            check_digest(temporary, url)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no weights at {path}, and they cannot be fetched ({error}): download {url} and put it there"
        ) from error
    return path


def check_digest(path: Path, url: str) -> None:
    """Raise ValueError unless the file has the SHA-256 that is part of the address, if one is."""
    expected = re.search(r"/([0-9a-f]{64})/", url)
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.group(1):
        raise ValueError(f"its SHA-256 is {found}, expected {expected.group(1)}")
