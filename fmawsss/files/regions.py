"""What a region memory keeps of each image, on disk: one npz per image, and the memory of many."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from fmawsss.files.json_files import REMAKE
from fmawsss.files.products import read_fingerprint, read_record
from fmawsss.files.storage import BROKEN_ARCHIVE, check_fingerprint, read_archive, write_archive
from fmawsss.memory import ImageRegions, RegionMemory, average_regions, make_values

REGIONS, REGIONS_VERSION = "fmawsss regions", 1
ARRAYS = ("scores", "classes", "rest", "rest_confidence")
HALF = np.float16  # of keys and values

# The values of the regions of an image, by its name, and the classes that it shows, multi-hot
ValueRegions = Callable[[str, ImageRegions, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Averaged:
    """Regions of another source, whose scores are averaged with those of the first.

    stamp: the fingerprint that its files must carry; None takes any.
    """

    folder: Path
    stamp: str | None

    def join(self, regions: ImageRegions, name: str) -> ImageRegions:
        """Average the regions of an image with those of this source.

        Raises ValueError naming the file, when they are about others.
        """
        path = self.folder / f"{name}.npz"
        other = read_regions(path, self.stamp)
        try:
            return average_regions(regions, other)
        except ValueError as error:
            raise ValueError(f"{path} cannot be averaged with another source: {error}") from error


def write_regions(path: Path, regions: ImageRegions, fingerprint: str) -> None:
    """Write the regions of one image; keys and confidences take half precision."""
    arrays = {name: np.asarray(getattr(regions, name)) for name in ARRAYS}
    arrays["rest_confidence"] = arrays["rest_confidence"].astype(HALF)
    if regions.keys is not None:
        arrays["keys"] = np.asarray(regions.keys, HALF)
    stamp = {"fingerprint": np.array(fingerprint)}
    write_archive(path, REGIONS, REGIONS_VERSION, {**stamp, **arrays})


def read_regions(path: Path, expected_fingerprint: str | None = None) -> ImageRegions:
    """Read the regions of one image.

    Raises:
        ValueError: naming the file, if it is broken or made with other settings.
    """
    arrays = read_archive(path, REGIONS, REGIONS_VERSION)
    check_fingerprint(path, arrays, expected_fingerprint)
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}: {REMAKE}")
    scores, keys = arrays["scores"].astype(np.float32), arrays.get("keys")
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(f"{path} holds scores of shape {scores.shape}, or not finite: {REMAKE}")
    if keys is not None and (keys.ndim != 2 or len(keys) != scores.shape[1]):
        raise ValueError(f"{path} holds {len(keys)} keys for {scores.shape[1]} regions: {REMAKE}")
    return ImageRegions(
        keys=None if keys is None else torch.from_numpy(keys.astype(np.float32)),
        scores=torch.from_numpy(scores),
        classes=torch.from_numpy(arrays["classes"].astype(np.int64)),
        rest=torch.from_numpy(arrays["rest"].astype(np.uint8)),
        rest_confidence=torch.from_numpy(arrays["rest_confidence"].astype(np.float32)),
    )


def read_stamp(path: Path) -> str | None:
    """Return the fingerprint that a file was written with, None for one that cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return str(archive["fingerprint"])
    except BROKEN_ARCHIVE:  # a missing file is one
        return None


def require_keys(path: Path, regions: ImageRegions) -> Tensor:
    """Return the keys; raises ValueError for regions that were kept without."""
    if regions.keys is None:
        raise ValueError(
            f"{path} holds no keys: they are made of images, `python infer.py task=cls "
            "callbacks=regions`; name the folder with keys=DIR"
        )
    return regions.keys


def find_values(regions: ImageRegions, classes: int) -> Tensor:
    """Return the values of regions, (M, R), among a number of classes."""
    return make_values(regions.scores, regions.classes, classes)


def value_regions(name: str, regions: ImageRegions, classes: int) -> tuple[Tensor, Tensor]:
    """Return the values of the regions of an image, (M, R), and its classes, multi-hot."""
    return find_values(regions, classes), show_classes(regions, classes)


def show_classes(regions: ImageRegions, classes: int) -> Bool[Tensor, "C"]:
    """Turn the classes that an image shows into multi-hot labels."""
    labels = torch.zeros(classes, dtype=torch.bool)
    labels[regions.classes] = True
    return labels


def find_stamp(folder: Path) -> str | None:
    """Return the fingerprint that the regions of a folder must carry, None without its record."""
    record = read_record(folder)
    return None if record is None else str(record["fingerprint"])


def require_superpixels(folder: Path, superpixels: Path) -> None:
    """Raise ValueError for regions of other superpixels, as far as their record tells."""
    made_from = (read_record(folder) or {}).get("upstream", {}).get("superpixels")
    if made_from not in (None, read_fingerprint(superpixels)):
        raise ValueError(
            f"{folder} was made with other superpixels than {superpixels}: make it again, `python "
            "infer.py task=cls callbacks=regions overwrite=true`, or name the right ones"
        )


def read_memory(
    folder: Path,
    keys: Path,
    names: Sequence[str],
    classes: int,
    store: Path,
    averaged: Averaged | None = None,
    value: ValueRegions | None = None,
) -> RegionMemory:
    """Read the regions of many images into one memory, kept in temporary files of a folder.

    The system keeps of these files what fits into the main memory. Keys take 2 bytes a number,
    values as well; nothing of a file outlives the process.

    keys: the folder that holds the keys, often the same.
    value: says what the regions of an image were taken for, and which classes it shows.

    Raises:
        FileNotFoundError: naming the command that makes what is missing.
        ValueError: for keys of different lengths, and files of another run.
    """
    store.mkdir(parents=True, exist_ok=True)
    stamps = find_stamp(folder), find_stamp(keys)
    counts, shown, width = [], torch.zeros(len(names), classes, dtype=torch.bool), None
    with tempfile.TemporaryFile(dir=store) as key_file, tempfile.TemporaryFile(dir=store) as values:
        for number, name in enumerate(names):
            regions, found = read_pair(folder, keys, name, *stamps, averaged)
            if width not in (None, found.shape[1]) and len(found):
                raise ValueError(
                    f"{keys}/{name}.npz holds keys of length {found.shape[1]}, others of {width}: "
                    "they are of another encoder; make all of them again"
                )
            width = found.shape[1] if len(found) else width
            key_file.write(found.numpy().astype(HALF).tobytes())
            taken, present = (value or value_regions)(name, regions, classes)
            values.write(taken.numpy().astype(HALF).tobytes())
            counts.append(len(found))
            shown[number] = present

        # the files, as arrays
        total = sum(counts)
        return RegionMemory(
            keys=map_file(key_file, (total, width or 1)),
            values=map_file(values, (total, classes + 1)),
            owners=torch.repeat_interleave(torch.arange(len(names)), torch.tensor(counts)),
            labels=shown,
        )


def read_pair(
    folder: Path,
    keys: Path,
    name: str,
    stamp: str | None,
    key_stamp: str | None,
    averaged: Averaged | None = None,
) -> tuple[ImageRegions, Tensor]:
    """Read the regions of an image, and their keys, which may lie in another folder.

    The stamps are the fingerprints that they must carry; None takes any.
    """
    path, key_path = folder / f"{name}.npz", keys / f"{name}.npz"
    regions = read_regions(path, stamp)
    found = require_keys(
        key_path, regions if key_path == path else read_regions(key_path, key_stamp)
    )
    if len(found) != regions.scores.shape[1]:
        raise ValueError(
            f"{key_path} holds {len(found)} keys, {path} {regions.scores.shape[1]} regions: they "
            "are of other superpixels"
        )
    return regions if averaged is None else averaged.join(regions, name), found


def map_file(file: IO[bytes], shape: tuple[int, int]) -> np.ndarray:
    """Map a file of half-precision numbers into memory; an empty one cannot be."""
    file.flush()
    if 0 in shape:
        return np.zeros(shape, HALF)
    return np.memmap(file, dtype=HALF, mode="r", shape=shape)
