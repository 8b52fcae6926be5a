"""JPEG files whose data end too early, although every decoder reads them: it fills up with grey."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageChops, ImageFile

END, SCAN = b"\xff\xd9", b"\xff\xda"  # marks: end of the picture, start of its data
GREY = 128  # what decoders fill up with
FILLER = b"\x55" * 4096
TAIL = 64  # bytes


def refuse_grey_end(path: Path, picture: Image.Image) -> None:
    """Raise ValueError for a JPEG whose data end before its last pixels, however it ends.

    Its last pixel is grey then, and further bytes before its end mark would change it; nothing
    comes after the data of a whole picture.
    """
    if picture.format != "JPEG" or picture.getpixel((-1, -1)) not in (GREY, (GREY,) * 3):
        return
    data = path.read_bytes()
    start, mark, rest = data.rpartition(END)
    if not mark:
        return
    whole, filled = decode(data), decode(start + FILLER + mark + rest)
    if ImageChops.difference(whole, filled).getbbox():
        raise ValueError("its data end too early, the rest would be grey")


def decode(data: bytes) -> Image.Image:
    """Decode a picture."""
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        return file


def refuse_zeros(path: Path, picture: ImageFile.ImageFile) -> None:
    """Raise ValueError for a JPEG without an end, filled up with zeros: a broken download.

    Looks at the end of the open file, before its pixels are read.
    """
    if picture.format != "JPEG" or picture.fp is None:
        return
    place = picture.fp.tell()
    picture.fp.seek(max(picture.fp.seek(0, 2) - TAIL, 0))
    tail = picture.fp.read()
    picture.fp.seek(place)
    if tail.strip(b"\0"):
        return
    data = path.read_bytes()
    if data.rfind(END) < data.rfind(SCAN):
        raise ValueError("it ends in zeros instead of data")
