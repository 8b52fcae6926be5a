"""What Pillow does not tell of a PNG: where its EXIF stands, whether all of its rows are there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

SIGNATURE = 8  # bytes before the first chunk
LATE = (b"exif\0", b"Raw profile type exif\0", b"XML:com.adobe.xmp\0", b"xmp\0")  # of texts
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
WHOLE = [(0, 0, 1, 1)]  # first column and row of a pass, and the steps to the next ones
ADAM7 = [
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
]  # fmt: skip
BLOCK = 2**16  # bytes that are unpacked at once


def has_late_exif(picture: PngImageFile) -> bool:
    """Say whether an open PNG has an orientation after its pixels; they are not decoded."""
    if picture.fp is None:  # decoded
        return False
    place, late, found = picture.fp.tell(), False, False
    for kind, _ in list_chunks(picture.fp):
        late |= kind == b"IDAT"
        found |= late and (kind == b"eXIf" or picture.fp.read(32).startswith(LATE))
    picture.fp.seek(place)
    return found


def list_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """List kind and length of each chunk of a PNG; the file stands at its content meanwhile."""
    file.seek(SIGNATURE)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        place = file.tell()
        yield kind, length
        file.seek(place + length + 4)


def refuse_missing_rows(path: Path, picture: Image.Image) -> None:
    """Raise ValueError for a decoded PNG whose data end before its last row; it is black then."""
    if picture.format != "PNG" or getattr(picture, "is_animated", False):
        return
    last = picture.crop((0, picture.height - 1, picture.width, picture.height))
    if np.asarray(last).any() and not picture.info.get("interlace"):
        return
    with path.open("rb") as file:
        wanted = count_wanted(file.read(29))
        if count_data(file, wanted) < wanted:
            raise ValueError("its data end before its last row, the rest would be black")


def count_wanted(head: bytes) -> int:
    """Count the bytes of all rows, of what a PNG says at its start."""
    width, height, depth, colour, interlaced = struct.unpack(">16xIIBB2xB", head)
    sizes = [
        (-(-(width - left) // right), -(-(height - top) // down))
        for left, top, right, down in (ADAM7 if interlaced else WHOLE)
    ]
    bits = depth * CHANNELS[colour]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0)


def count_data(file: IO[bytes], enough: int) -> int:
    """Count the bytes that the data of a PNG unpack to, until it is enough."""
    unpack, count = zlib.decompressobj(), 0
    for kind, length in list_chunks(file):
        data = file.read(length) if kind == b"IDAT" else b""
        while data and count < enough:
            count += len(unpack.decompress(data, BLOCK))
            data = unpack.unconsumed_tail
    return count
