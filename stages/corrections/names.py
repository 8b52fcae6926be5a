"""Which image of a data set a tool means: tools add folders, addresses and numbers to its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from datamodules.images import compose_names, find_name
from fmawsss.files.texts import compose

UPLOADED = re.compile(r"(?:^|(?<=/))[0-9a-f]{8}-(?=[^/]+$)")  # Label Studio, before a file's name


class ImageNames:
    """The names of a data set's images, found by what tools write."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = dict.fromkeys(names)
        self.composed = compose_names(self.names)
        self.flat = {compose(name.replace("/", "__")): name for name in self.names}

    def find(self, written: str) -> str | None:
        """Return the name of the image that is meant, None where there is none.

        Tried in turn: the path as it is, without its first folders, without what an upload adds.
        """
        for path in (written, UPLOADED.sub("", written)):
            parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
            for first in range(len(parts)):
                rest = "/".join(parts[first:])
                name = find_name(rest, self.names, self.composed)
                if name in self.names:
                    return name
                flat = find_name(rest, (), self.flat)
                if flat in self.names and flat != rest:
                    return flat
        return None


def read_address(address: str) -> str:
    """Return the path of an image that an address names; local files stand behind `d=`.

    >>> read_address("/data/local-files/?d=a%20b/1.jpg"), read_address("s3://all/b/1.jpg?x=1")
    ('a b/1.jpg', 'all/b/1.jpg')
    """
    parts = urlsplit(address)
    local = re.search(r"(?:^|&)d=([^&]*)", parts.query)
    return unquote(local[1]) if local else unquote(f"{parts.netloc}{parts.path}")
