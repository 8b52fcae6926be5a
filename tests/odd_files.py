"""Files as they come from phones, scanners, broken downloads and worse: made from a seed."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmawsss.files.images import SUFFIXES

SIZES = [(1, 1), (1, 300), (300, 1), (7, 5), (8, 8), (9, 17), (33, 40), (64, 48)]
HUGE = [(1, 5000), (5000, 1), (3000, 2)]
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"]
FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}), ("PNG", {"compress_level": 0}), ("PNG", {"bits": 2}), ("JPEG", {}),
    ("JPEG", {"progressive": True}), ("JPEG", {"subsampling": 0, "quality": 20}), ("GIF", {}),
    ("JPEG", {"restart_marker_rows": 1}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("TGA", {}),
    ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("WEBP", {"lossless": True}), ("WEBP", {}), ("JPEG2000", {}), ("AVIF", {}), ("MPO", {}),
    ("TIFF", {"compression": "jpeg"}), ("ICO", {}),
]  # fmt: skip
ANIMATED = ("PNG", "GIF", "WEBP", "TIFF", "MPO")  # frames of several sizes break AVIF's encoder
ENDINGS = [*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)]


def draw(rng: np.random.Generator, size: tuple[int, int], mode: str) -> Image.Image:
    """Draw smooth colours or noise in a mode."""
    values = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if rng.random() < 0.5:
        values[:] = values[0, 0]
    if rng.random() < 0.3:
        values[size[0] // 2 :] = 128  # what decoders fill up with
    picture = Image.fromarray(values)
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    if mode == "PA":
        return picture.convert("LA").convert("PA")
    if mode == "LAB":
        return Image.frombytes("LAB", (size[1], size[0]), values.tobytes())
    return picture.convert(mode)


def write_exif(rng: np.random.Generator) -> bytes:
    """Write a block of EXIF with tags of any kind, sometimes cut or stirred."""
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10))
    for tag in rng.choice([0x010F, 0x011A, 0x0128, 0x0213, 0x0131, 0x9286], 2):
        exif[int(tag)] = [b"\0\xff", "text", 7, (1, 2), 3.5][int(rng.integers(5))]
    try:
        block = exif.tobytes()
    except Exception:
        block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return spoil(rng, block)[:60000] if rng.random() < 0.5 else block


def encode(rng: np.random.Generator, picture: Image.Image) -> bytes:
    """Write a picture in a format, with odd facts beside it; a mode that it lacks is converted."""
    kind, settings = FORMATS[int(rng.integers(len(FORMATS)))]
    settings = dict(settings)
    if settings.get("compression") == "jpeg" and picture.mode not in ("L", "RGB"):
        picture = draw(rng, SIZES[-1], "RGB")  # libtiff breaks the process with others
    if rng.random() < 0.4:
        settings["exif"] = write_exif(rng)
    if rng.random() < 0.2:
        settings["icc_profile"] = rng.bytes(200)
    if rng.random() < 0.2:
        settings["transparency"] = int(rng.integers(0, 300))
    if rng.random() < 0.2 and kind in ANIMATED:
        settings |= {"save_all": True, "append_images": [picture.copy(), picture.rotate(90)]}
    for mode in (picture.mode, "RGB", "L", "1"):
        for chosen in (settings, {}):
            memory = io.BytesIO()
            try:
                shown = picture if mode == picture.mode else picture.convert(mode)
                shown.save(memory, kind, **chosen)
            except Exception:  # a format lacks a mode, or a fact
                continue
            return memory.getvalue()
    return b""


def find_borders(data: bytes) -> list[int]:
    """Find where parts of a file begin: marks of JPEG, chunks of PNG, of RIFF, entries of a zip."""
    marks = rb"\xff[\xc0-\xfe]|IHDR|IDAT|IEND|PLTE|tRNS|acTL|VP8|ANIM|PK\x01\x02|PK\x03\x04|PK\x05"
    return [at for match in re.finditer(marks, data) for at in (match.start(), match.end())]


def spoil(rng: np.random.Generator, data: bytes) -> bytes:
    """Cut a file off, at a border or anywhere, or change, add or drop some bytes."""
    if not data:
        return data
    at = int(rng.integers(len(data)))
    borders = find_borders(data) or [at]
    noise = rng.bytes(int(rng.integers(1, 9)))
    end = borders[int(rng.integers(len(borders)))]
    return [
        data[:at],
        data[:end],
        data[:at] + noise + data[at + len(noise) :],
        data[:end] + noise + data[end:],
        data[:at] + data[at + len(noise) :],
        data[:at] + bytes(len(data) - at),
        data[:at] + b"\xff\xd9",
        data + noise * 40,
    ][int(rng.integers(8))]


def claim_size(rng: np.random.Generator, data: bytes) -> bytes:
    """Let the head of a PNG claim other sides."""
    if not data.startswith(b"\x89PNG"):
        return data
    sides = rng.choice([0, 1, 20000, 100000, 2**31 - 1], 2)
    return data[:16] + struct.pack(">II", *map(int, sides)) + data[24:]


def write_odd_image(seed: int, folder: Path) -> Path:
    """Write a file of an image; most are whole."""
    rng = np.random.default_rng(seed)
    sizes = HUGE if rng.random() < 0.05 else SIZES
    size = sizes[int(rng.integers(len(sizes)))]
    data = encode(rng, draw(rng, size, MODES[int(rng.integers(len(MODES)))]))
    if rng.random() < 0.5:
        data = spoil(rng, data)
    if rng.random() < 0.05:
        data = claim_size(rng, data)
    path = folder / f"{seed}{ENDINGS[int(rng.integers(len(ENDINGS)))]}"
    path.write_bytes(data)
    return path


def write_odd_mask(seed: int, folder: Path, size: tuple[int, int]) -> Path:
    """Write a file of a mask, mostly of the right size and kind."""
    rng = np.random.default_rng(seed)
    size = size if rng.random() < 0.9 else (size[1], size[0])
    values = rng.choice([0, 1, 2, 255 if rng.random() < 0.9 else 3], size).astype(np.uint8)
    picture = Image.fromarray(values)
    if rng.random() < 0.2:
        picture = picture.convert(["1", "RGB", "LA", "I;16", "RGBA", "I"][int(rng.integers(6))])
    elif rng.random() < 0.5:
        picture.putpalette(rng.bytes(768))
    memory, facts = io.BytesIO(), {}
    if rng.random() < 0.3:
        facts["exif"] = write_exif(rng)
    if rng.random() < 0.3:
        facts["transparency"] = int(rng.integers(0, 256))
    if rng.random() < 0.1:
        facts |= {"save_all": True, "append_images": [picture.rotate(90), picture]}
    try:
        picture.save(memory, "PNG", **facts)
    except Exception:
        picture.save(memory, "PNG")
    data = memory.getvalue()
    path = folder / f"{seed}.png"
    path.write_bytes(spoil(rng, data) if rng.random() < 0.5 else data)
    return path


def spoil_archive(seed: int, data: bytes) -> bytes:
    """Spoil an npz: its bytes, or one of its arrays by another kind, shape or value."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.4:
        return spoil(rng, data)
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = list(arrays)[int(rng.integers(len(arrays)))]
    old = arrays[name]
    new: list[Any] = [
        np.array("text"), np.array(["a"] * max(old.size, 1)), np.zeros(0), old.astype(np.float16)
        if old.dtype.kind in "iuf" else old, old.reshape(-1), old[None], np.array([np.nan]),
        np.array([1 << 40]), np.array([-5]), np.array([1j]), np.zeros(old.shape, "i4,f4"),
        old.astype(np.int64) - 7 if old.dtype.kind in "iuf" else old, np.array([0.5] * old.size),
        np.concatenate([old.reshape(-1), old.reshape(-1)]), np.zeros((0, 3, 3)), None,
        np.array("2024-01-01", "M8[D]"), np.full(old.shape, 1e300),
    ]  # fmt: skip
    chosen = new[int(rng.integers(len(new)))]
    arrays.pop(name)
    if chosen is not None:
        arrays[name] = chosen
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    return claim_shape(rng, memory.getvalue()) if rng.random() < 0.1 else memory.getvalue()


def claim_shape(rng: np.random.Generator, data: bytes) -> bytes:
    """Let the head of an array claim a huge shape, in an archive that is whole otherwise."""
    memory = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(memory, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if rng.random() < 0.3:
                shape = re.search(rb"'shape': \([^)]*\)", content)
                if shape:
                    width = len(shape[0])
                    huge = b"'shape': (%d,)" % 10 ** int(rng.integers(9, 17))
                    content = content.replace(shape[0], huge.ljust(width), 1)
            new.writestr(name, content)
    return memory.getvalue()
