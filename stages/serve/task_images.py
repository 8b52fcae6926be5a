"""Images of Label Studio's tasks: sent along, below one folder, or of a host that was allowed."""

from __future__ import annotations

import base64
import os
from binascii import Error as NoBase64
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException as HttpFault
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, parse_qs, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

LOCAL = "/data/local-files/"  # Label Studio's address of files on its disk
KEY = "LABEL_STUDIO_API_KEY"  # of a user of Label Studio, in the environment
CHUNK = 1 << 16
SCHEMES = ("http", "https")


@dataclass(frozen=True)
class TaskImages:
    """Where images of tasks may come from; anything else is refused.

    root: the folder that Label Studio serves as its local files, if any.
    label_studio: its address, `http://localhost:8080`; what was uploaded there is fetched with the
        key in the environment.
    remote: other hosts, `example.org` or `example.org:8080`. No redirection is followed.
    size: bytes of an image, at most. seconds: without any answer.
    """

    root: Path | None
    label_studio: str | None
    remote: Sequence[str]
    size: int
    seconds: float

    def find(self, address: object, path: Path) -> Path:
        """Return the file of an image; what is sent or fetched is written to `path`.

        Raises:
            ValueError: for what may not be read, or cannot. It does not tell what the disk holds.
        """
        if not isinstance(address, str) or not address:
            raise ValueError("the task has no image at the place that the labelling config names")
        if address.startswith("data:"):
            path.write_bytes(decode_data(address))
            return path
        try:
            parts = urlsplit(address)
            if not parts.scheme and not parts.netloc:  # of Label Studio itself
                parts = urlsplit(urljoin(self.label_studio or "", address))
            plain = not parts.scheme and not parts.netloc
            if (plain or self._is_own(parts)) and parts.path.endswith(LOCAL):
                return self._find_local(parts.query)
            self._fetch(parts, path)
        except (OSError, HttpFault, ValueError) as error:
            shown = address if len(address) < 100 else address[:100] + "…"
            raise ValueError(f"image {shown!r}: {error}") from None
        return path

    def _find_local(self, query: str) -> Path:
        """Find a file below the root; links that lead out of it are not followed."""
        if self.root is None:
            raise ValueError("no folder of local files is known: start with job.images=DIR")
        names = parse_qs(query).get("d", [])
        root = self.root.resolve()
        path = (root / names[0]).resolve() if names else root
        if not path.is_relative_to(root) or not path.is_file():
            raise ValueError("no such file below job.images")
        return path

    def _fetch(self, parts: SplitResult, path: Path) -> None:
        """Fetch an image from a host that is allowed."""
        if not parts.scheme and not parts.netloc:
            raise ValueError(
                "it lies in Label Studio: start with job.label_studio=http://localhost:8080"
            )
        own = self._is_own(parts)
        if parts.scheme not in SCHEMES or not (own or parts.netloc in self.remote):
            raise ValueError("this host is not allowed: job.remote names those that are")
        key = os.environ.get(KEY) if own else None
        headers = {"Authorization": f"Token {key}"} if key else {}
        request = Request(parts.geturl(), headers=headers)
        with OPENER.open(request, timeout=self.seconds) as answer, path.open("wb") as file:
            copy_bounded(answer, file, self.size)

    def _is_own(self, parts: SplitResult) -> bool:
        """Say whether an address is one of Label Studio itself."""
        own = urlsplit(self.label_studio or "")
        return bool(own.netloc) and (own.scheme, own.netloc) == (parts.scheme, parts.netloc)


def make_opener() -> OpenerDirector:
    """Make what opens addresses: of the web alone, without a proxy and without redirections."""
    opener = OpenerDirector()
    for handler in (HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


OPENER = make_opener()


def decode_data(address: str) -> bytes:
    """Decode an image that stands in its address.

    Raises:
        ValueError: for anything but `data:image/…;base64,…`.
    """
    head, _, body = address.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ValueError("an image in its address begins with data:image/KIND;base64,")
    try:
        return base64.b64decode(body, validate=True)
    except NoBase64 as error:
        raise ValueError("the image in the task is no base64") from error


def copy_bounded(source: Any, file: IO[bytes], size: int) -> None:
    """Copy what is at most so large; raises ValueError for more."""
    left = size
    while chunk := source.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"it has more than {size / 1e6:g} million bytes")
        file.write(chunk)
