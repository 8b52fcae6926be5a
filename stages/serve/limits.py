"""What a server bounds, so that no client takes more than its share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; what is beyond is refused with a line that says so.

    megabytes: of a request. megapixels: of an image, known before it is decoded.
    uploads: requests that are read at once. waiting: images that wait or are worked on.
    threads: images that are decoded and encoded at once; the network sees one at a time.
    upload_seconds: until a request was read whole. seconds: until an image has its mask.
    tasks: of Label Studio in one request.
    """

    megabytes: float
    megapixels: float
    uploads: int
    waiting: int
    threads: int
    upload_seconds: float
    seconds: float
    tasks: int

    @property
    def body(self) -> int:
        """Bytes of a request."""
        return round(self.megabytes * 1e6)
