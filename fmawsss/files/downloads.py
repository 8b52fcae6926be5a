"""Published weights: found in their folder, or fetched into it when the network allows."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path
from urllib.request import urlopen

from rich.progress import wrap_file

from fmawsss.files.storage import replace_file

PATIENCE = 5  # seconds without any answer

log = logging.getLogger(__name__)


def fetch_file(path: Path, url: str, sha256: str | None = None) -> Path:
    """Return `path`, fetching it from `url` first if it is missing, with a progress bar and a check
    of the SHA-256.

    Without `sha256`, one that is part of the address is checked, if there is one.

    Raises FileNotFoundError naming both when it cannot be fetched; this takes seconds where there
    is no network.
    """
    if path.is_file():
        return path
    log.info("fetching %s to %s", url, path)
    try:
        with urlopen(url, timeout=PATIENCE) as answer, replace_file(path) as temporary:
            expected = int(answer.headers["Content-Length"] or 0)
            with (
                temporary.open("wb") as file,
                wrap_file(answer, expected, description=path.name) as watched,
            ):
                shutil.copyfileobj(watched, file, 1 << 20)
            found = temporary.stat().st_size
            if found < expected:
                raise OSError(f"the connection ended after {found} of {expected} bytes")
            check_digest(temporary, sha256 or find_digest(url))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no weights at {path}, and they cannot be fetched ({error}): download {url} and put "
            "it there"
        ) from error
    return path


def find_digest(url: str) -> str | None:
    """Return the SHA-256 that is part of an address, if one is."""
    found = re.search(r"/([0-9a-f]{64})/", url)
    return found and found.group(1)


def check_digest(path: Path, expected: str | None) -> None:
    """Raise ValueError unless the file has the SHA-256 that it should have, if that is known."""
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"its SHA-256 is {found}, expected {expected}")
