"""What two folders of results hold that is not the same: pixels, arrays, tensors, scores, bytes."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

# What tells times, or settings, which may be spelled anew; journals tell both, and become scores
PASSING = {".html", ".log", ".md", ".lock", ".yaml", ".pkl", ".done", ""}
RECORDS = ("run.json", "stages.json", "job.json", "sweep.json", "*.scores.*.jsonl", "*.files.jsonl")
RECORDS += ("labels_of_masks.csv", ".checked_files.json")  # of files with their times
FOLDERS = {"runs", ".hydra", "features"}  # the name of a feature store is a fingerprint


def list_products(folder: Path) -> list[str]:
    """List the files below a folder that a run makes for others to use."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(p.relative_to(folder)) for p in files if is_product(p, p.relative_to(folder))]


def is_product(path: Path, place: Path) -> bool:
    """Say whether the file is more than a record of how, and when, a run went."""
    beside = path.with_suffix("")  # the product that a record `cls.ckpt.json` describes
    is_record = path.suffix == ".json" and beside.exists()
    is_record |= any(path.match(pattern) for pattern in RECORDS)
    return not (is_record or path.suffix in PASSING or FOLDERS & {*place.parts})


def find_differences(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Name each part in which two files of the same kind differ, and how."""
    if old.read_bytes() == new.read_bytes():
        return
    readers = {".png": read_picture, ".npz": read_arrays, ".ckpt": read_tensors}
    readers |= {".json": read_json, ".csv": read_table, ".gz": read_archive}
    read = readers.get(old.suffix)
    if read is None:
        yield "bytes", f"{old.stat().st_size} and {new.stat().st_size} bytes"
    else:
        yield from compare_parts(dict(read(old)), dict(read(new)))


def compare_parts(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each part that only one side has, or whose values differ."""
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in old or name not in new:
            yield name, f"only in the {'old' if name in old else 'new'} tree"
        elif isinstance(old[name], np.ndarray):
            yield from ((name, how) for how in compare_arrays(old[name], new[name]))
        elif old[name] != new[name]:
            yield name, f"{shorten(old[name])} -> {shorten(new[name])}"


def compare_arrays(old: np.ndarray, new: np.ndarray) -> Iterator[str]:
    """Say how two arrays differ, to the bit."""
    if old.dtype != new.dtype or old.shape != new.shape:
        yield f"{old.dtype} {old.shape} -> {new.dtype} {new.shape}"
    elif old.tobytes() != new.tobytes():
        places = np.argwhere(old != new)  # none where only signs of zeros or NaNs differ
        first = tuple(places[0].tolist()) if len(places) else (0,) * old.ndim
        yield f"{len(places)} of {old.size} values, at {first} {old[first]} -> {new[first]}"


def read_picture(path: Path) -> Iterator[tuple[str, Any]]:
    """Read mode, palette and pixels, then the bytes of the file."""
    with Image.open(path) as picture:
        yield "mode", picture.mode
        yield "palette", picture.getpalette()
        yield "pixels", np.array(picture)
    yield "bytes", np.frombuffer(path.read_bytes(), np.uint8)


def read_arrays(path: Path) -> Iterator[tuple[str, Any]]:
    """Read the arrays of an archive; text as text."""
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = archive[name]
            yield name, str(array) if array.dtype.kind == "U" else array


def read_tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Read weights and, of an unfinished training, what optimiser and scheduler remember."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        for name, value in flatten(content.get(part), part):
            yield name, value.numpy() if isinstance(value, torch.Tensor) else value


def read_json(path: Path) -> Iterator[tuple[str, Any]]:
    """Read scores or exports, one value for each path of keys."""
    yield from flatten(json.loads(path.read_text()), "")


def read_table(path: Path) -> Iterator[tuple[str, Any]]:
    """Read the names of columns, then the cells; how long a job of a sweep took is no result."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    yield "header", header
    for number, row in enumerate(rows):
        for column, (name, value) in enumerate(zip(header, row, strict=True)):
            if name != "seconds":
                yield f"row {number}, column {column}", value


def read_archive(path: Path) -> Iterator[tuple[str, Any]]:
    """Read the files of an archive, whose own times are no result."""
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            yield member.name, b"" if content is None else content.read()


def flatten(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of dictionaries and lists with its path of keys."""
    if isinstance(node, dict | list | tuple) and node:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from flatten(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def shorten(value: object) -> str:
    """Write a value in a few characters."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
