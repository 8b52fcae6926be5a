"""PNGs: sizes are read without decoding, wherever the EXIF stands; missing rows are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from fmawsss.files.images import read_image, read_shrunk, read_size, try_image
from fmawsss.files.png import read_mask

PICTURE = np.random.default_rng(0).integers(1, 255, (9, 12, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
XMP = '<x tiff:Orientation="6"/>'
READERS = (read_image, try_image, lambda path: read_shrunk(path, 100))


def encode(picture: np.ndarray | Image.Image, **settings) -> bytes:
    memory = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(memory, "png", **settings)
    return memory.getvalue()


def make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_text(text: bytes) -> bytes:
    """Write an XMP block as international text does."""
    return make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)


def make_interlaced(picture: np.ndarray) -> tuple[bytes, bytes]:
    """Make head and rows of a grey picture in Adam7's seven passes, which Pillow only reads."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = []
    for left, top, right, down in [*passes, (0, 1, 1, 2)]:
        part = picture[top::down, left::right]
        rows += [b"\0" + row.tobytes() for row in part if part.size]
    height, width = picture.shape
    head = make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))
    return head, b"".join(rows)


def put_together(head: bytes, rows: bytes) -> bytes:
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + head + make_chunk(b"IDAT", zlib.compress(rows)) + make_chunk(b"IEND", b"")


def change_height(data: bytes, height: int) -> bytes:
    head = data[16:20] + struct.pack(">I", height) + data[24:29]
    return data[:8] + make_chunk(b"IHDR", head) + data[33:]


LATE = {
    "none": b"",
    "eXIf": make_chunk(b"eXIf", TURNED.tobytes()[6:]),
    "xmp": write_text(XMP.encode()),
    "hexadecimal": make_chunk(
        b"tEXt", b"Raw profile type exif\0\nexif\n  99\n" + TURNED.tobytes().hex().encode()
    ),
    "a date": make_chunk(b"tEXt", b"date:create\x002020-01-01"),
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", LATE)
def test_exif_turns_wherever_it_stands(tmp_path, monkeypatch, kind, early):
    """Only what may turn the picture after its pixels has them decoded, by Pillow as ever."""
    path, data = tmp_path / "a.png", encode(PICTURE)
    place = data.index(b"IDAT") - 4 if early else len(data) - 12
    path.write_bytes(data[:place] + LATE[kind] + data[place:])
    turns = kind in ("eXIf", "xmp", "hexadecimal")
    upright = np.rot90(PICTURE, -1) if turns else PICTURE
    assert (read_image(path) == upright).all()
    assert (read_shrunk(path, 100)[0] == upright).all()
    assert try_image(path) == read_size(path) == upright.shape[:2]

    monkeypatch.setattr(PngImageFile, "load_prepare", lambda self: pytest.fail("decoded"))
    if early or not turns:
        assert read_size(path) == upright.shape[:2]
    else:
        with pytest.raises(pytest.fail.Exception):
            read_size(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_missing_rows_are_refused(tmp_path, mode):
    path = tmp_path / "a.png"
    blank = Image.new(mode, (13, 20))  # black throughout: whole all the same
    data = encode(blank)
    path.write_bytes(data)
    for read in READERS:
        read(path)
    path.write_bytes(change_height(data, 50))
    for read in (*READERS, read_mask) if mode in ("L", "P") else READERS:
        with pytest.raises(ValueError, match=r"a\.png cannot be read .*end before its last row"):
            read(path)


@pytest.mark.parametrize("size", [(9, 12), (2, 2), (3, 2), (8, 5), (4, 33)])
def test_interlaced_pictures_are_counted_by_their_passes(tmp_path, size):
    grey = np.random.default_rng(0).integers(1, 255, size, np.uint8)
    head, rows = make_interlaced(grey)
    path = tmp_path / "a.png"
    path.write_bytes(put_together(head, rows))
    assert (read_mask(path) == grey).all()
    path.write_bytes(put_together(head, rows[: -size[1] - 1]))
    with pytest.raises(ValueError, match=r"a\.png cannot be read .*end before its last row"):
        read_mask(path)


def test_colours_without_their_palette_are_refused(tmp_path):
    path, data = tmp_path / "a.png", encode(Image.fromarray(PICTURE).quantize(8))
    path.write_bytes(data)
    for read in READERS:
        read(path)
    place = data.index(b"PLTE") - 4
    path.write_bytes(data[:place] + data[place + 12 + int.from_bytes(data[place : place + 4]) :])
    for read in READERS:
        with pytest.raises(ValueError, match=r"a\.png cannot be read .*palette that it lacks"):
            read(path)
