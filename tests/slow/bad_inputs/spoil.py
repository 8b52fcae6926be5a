"""Ways to spoil files of the project: each returns what `BadInput.prepare` takes."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Prepare = Callable[[Path], Any]


def write(file: str, data: bytes | Callable[[bytes], bytes]) -> Prepare:
    """Write a file; a function makes the new content of the old one."""

    def prepare(folder: Path) -> None:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data(path.read_bytes()) if callable(data) else data)

    return prepare


def encode(array: np.ndarray | Image.Image, kind: str, **settings: Any) -> bytes:
    """Encode a picture."""
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    memory = io.BytesIO()
    picture.save(memory, kind, **settings)
    return memory.getvalue()


def cut(data: bytes) -> bytes:
    """Keep the first half."""
    return data[: len(data) // 2]


def empty(file: str) -> Prepare:
    """Empty a file."""
    return write(file, b"")


def remove(file: str) -> Prepare:
    """Remove a file or a folder."""

    def prepare(folder: Path) -> None:
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return prepare


def in_place(file: str, make: Callable[[Path], Any]) -> Prepare:
    """Put something that is no file in the place of one."""

    def prepare(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return prepare


def link_to(target: str) -> Callable[[Path], Any]:
    """Make a link."""
    return lambda path: path.symlink_to(target)


def make_pipe(path: Path) -> None:
    """Make a pipe, which a reader would wait for."""
    os.mkfifo(path)


def change_png(data: bytes, **size: int) -> bytes:
    """Say another width or height in the head of a PNG, with a right checksum."""
    head = bytearray(data[12:29])  # IHDR and its values
    width, height = struct.unpack(">II", head[4:12])
    head[4:12] = struct.pack(">II", size.get("width", width), size.get("height", height))
    return data[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + data[33:]


def change_arrays(file: str, **arrays: Any) -> Prepare:
    """Replace arrays of an npz; None takes one out, a function makes it of the old one."""

    def prepare(folder: Path) -> None:
        with np.load(folder / file) as archive:
            found = {name: archive[name] for name in archive.files}
        for name, value in arrays.items():
            new = value(found.pop(name)) if callable(value) else value
            found.pop(name, None)
            if new is not None:
                found[name] = new
        np.savez_compressed(folder / file, **found)

    return prepare


def each(*steps: Prepare) -> Prepare:
    """Do several things."""
    return lambda folder: [step(folder) for step in steps]


def change_mask(file: str, make: Callable[[np.ndarray], Any]) -> Prepare:
    """Write a PNG made of a mask that is there."""

    def prepare(folder: Path) -> None:
        mask = np.array(Image.open(folder / file))
        (folder / file).write_bytes(encode(make(mask), "png"))

    return prepare
