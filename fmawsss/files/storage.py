"""Superpixels and CAMs on disk: written whole or not at all, checked when read, no pickle."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmawsss.files.json_files import REMAKE, require_file
from fmawsss.files.writing import replace_file
from fmawsss.records import Cams
from fmawsss.superpixels import Superpixels

SUPERPIXELS, SUPERPIXELS_VERSION = "fmawsss superpixels", 1
CAMS, CAMS_VERSION = "fmawsss cams", 1
# type, and shape of what belongs to one mask or run
SUPERPIXEL_ARRAYS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "level": ("uint8", ()),
    "area": ("int64", ()),
    "box": ("int64", (4,)),
    "predicted_iou": ("float32", ()),
    "stability": ("float32", ()),
    "point": ("float64", (2,)),
    "crop": ("int64", (4,)),
    "counts": ("int32", ()),
    "offsets": ("int64", ()),
}
LARGEST_ARCHIVE = 1 << 31  # bytes of all arrays of one image
BROKEN_ARCHIVE = (Exception,)  # readers of zip and npy have many kinds for what broken files do


def write_superpixels(path: Path, superpixels: Superpixels, fingerprint: str) -> None:
    """Write the record of one image, stamped with the fingerprint of the settings that made it."""
    arrays = {
        field.name: np.asarray(getattr(superpixels, field.name)) for field in fields(superpixels)
    }
    write_archive(
        path, SUPERPIXELS, SUPERPIXELS_VERSION, {"fingerprint": np.array(fingerprint), **arrays}
    )


def read_superpixels(path: Path, expected_fingerprint: str | None = None) -> Superpixels:
    """Read the record of one image.

    Raises:
        ValueError: naming the file, if it is broken or made with other settings.
    """
    arrays = read_archive(path, SUPERPIXELS, SUPERPIXELS_VERSION)
    check_fingerprint(path, arrays, expected_fingerprint)
    try:
        return _build_superpixels(arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} holds no whole superpixel record ({error!r}): {REMAKE}"
        ) from error


def write_cams(path: Path, cams: Cams, fingerprint: str) -> None:
    """Write CAMs in float32."""
    arrays = {"cam": np.asarray(cams.maps, np.float32), **_list_facts(cams)}
    if cams.attention is not None:
        arrays["attention"] = np.asarray(cams.attention, np.float32)
    write_archive(path, CAMS, CAMS_VERSION, {"fingerprint": np.array(fingerprint), **arrays})


def write_half_cams(path: Path, cams: Cams, fingerprint: str) -> None:
    """Write CAMs in half the space.

    They are float16 after division by each map's largest magnitude, which is kept in float32.
    """
    arrays = _list_facts(cams)
    arrays["cam"], arrays["cam_scale"] = _halve_maps(np.asarray(cams.maps, np.float32))
    if cams.attention is not None:
        attention, scale = _halve_maps(np.asarray(cams.attention, np.float32)[None])
        arrays["attention"], arrays["attention_scale"] = attention[0], scale[0]
    write_archive(path, CAMS, CAMS_VERSION, {"fingerprint": np.array(fingerprint), **arrays})


def read_cams(path: Path, expected_fingerprint: str | None = None) -> Cams:
    """Read CAMs written by either writer, or by others.

    Those hold arrays `cam`, and `classes` or `fg_cls` (docs/cams.md).
    """
    arrays = read_archive(path, CAMS, CAMS_VERSION, foreign=("classes", "fg_cls"))
    if "format" in arrays:
        check_fingerprint(path, arrays, expected_fingerprint)
    try:
        maps, attention = _restore_maps(arrays, "cam"), _restore_maps(arrays, "attention")
        cams = build_cams(maps, list_cam_classes(arrays), attention)
    except KeyError as error:
        raise ValueError(f"{path} has no array {error}: {REMAKE}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds {error}: {REMAKE}") from error
    recipe = str(arrays["recipe"]) if "format" in arrays and "recipe" in arrays else None
    return replace(cams, recipe=recipe)


def list_cam_classes(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the class of each CAM; raises ValueError unless they are whole numbers, each once."""
    found = arrays["fg_cls" if "fg_cls" in arrays else "classes"].reshape(-1)
    if "classes" in arrays and not np.array_equal(found, arrays["classes"].reshape(-1)):
        raise ValueError("`classes` and `fg_cls` that differ")
    with np.errstate(invalid="ignore"):
        classes = found.astype(np.int64) if found.dtype.kind in "iuf" else None
    if classes is None or (classes != found).any() or len(np.unique(classes)) < len(classes):
        raise ValueError(
            f"classes {reprlib.repr(found.tolist())}, expected whole numbers, each once"
        )
    return classes


def build_cams(maps: Tensor | None, classes: np.ndarray, attention: Tensor | None) -> Cams:
    """Join CAMs, their classes and attention; raises ValueError unless they fit."""
    shape = None if maps is None else tuple(maps.shape)
    if (
        maps is None
        or maps.ndim != 3
        or len(maps) != len(classes)
        or (len(maps) and not maps.numel())
    ):
        raise ValueError(
            f"CAMs of shape {shape}, expected one map (h, w) for each of {len(classes)} classes"
        )
    if attention is not None and (attention.ndim != 2 or attention.shape[0] != attention.shape[1]):
        raise ValueError(f"attention of shape {tuple(attention.shape)}, expected (N, N)")
    if not maps.isfinite().all() or (attention is not None and not attention.isfinite().all()):
        raise ValueError("CAMs or attention with values that are no numbers (NaN or infinity)")
    return Cams(maps, torch.from_numpy(classes), attention)


def _list_facts(cams: Cams) -> dict[str, np.ndarray]:
    """List what a file of CAMs says beside them."""
    facts = {"classes": np.asarray(cams.classes)}
    return facts if cams.recipe is None else {**facts, "recipe": np.array(cams.recipe)}


def write_archive(path: Path, kind: str, version: int, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an npz of a kind and version."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, format=np.array(kind), version=np.array(version), **arrays)


def read_archive(
    path: Path, kind: str, version: int, foreign: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read all arrays of an npz after checking its kind and version.

    Files with a `foreign` array may lack both.
    """
    try:
        with require_file(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            held = sum(entry.file_size for entry in archive.zip.infolist())  # an .npy has no `zip`
            if held > LARGEST_ARCHIVE:
                raise ValueError(f"it would unpack to {held} bytes")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} is broken or no npz archive ({error}): {REMAKE}") from error
    if "format" not in arrays and any(name in arrays for name in foreign):
        return arrays
    found = (str(arrays.get("format")), str(arrays.get("version")))
    if found != (kind, str(version)):
        raise ValueError(
            f"{path} holds {found[0]!r} version {found[1]}, expected {kind!r} version {version}: "
            f"{REMAKE}"
        )
    return arrays


def holds_superpixels(path: Path, fingerprint: str) -> bool:
    """Say whether a file is a whole archive of superpixels of a fingerprint."""
    arrays = {"size", *SUPERPIXEL_ARRAYS}
    return _holds_archive(path, SUPERPIXELS, SUPERPIXELS_VERSION, fingerprint, arrays)


def holds_cams(path: Path, fingerprint: str) -> bool:
    """Say whether a file is a whole archive of CAMs of a fingerprint."""
    return _holds_archive(path, CAMS, CAMS_VERSION, fingerprint, {"cam", "classes"})


def _holds_archive(path: Path, kind: str, version: int, fingerprint: str, arrays: Set[str]) -> bool:
    """Read the table of contents, at the end of a file, and its stamps; no array is unpacked."""
    wanted = {"format": kind, "version": str(version), "fingerprint": fingerprint}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            whole = arrays <= set(archive.files)
            return whole and all(str(archive[name]) == value for name, value in wanted.items())
    except BROKEN_ARCHIVE:
        return False


def check_fingerprint(path: Path, arrays: Mapping[str, np.ndarray], expected: str | None) -> None:
    """Raise ValueError for arrays that were made with other settings; None takes any."""
    found = str(arrays.get("fingerprint"))
    if expected is not None and found != expected:
        raise ValueError(
            f"{path} was made with other settings: fingerprint {found}, expected {expected}. Make "
            "it again with overwrite=true, or choose another paths.work"
        )


def _build_superpixels(arrays: Mapping[str, np.ndarray]) -> Superpixels:
    """Turn arrays into a record.

    Raises:
        ValueError: unless all are as documented and every mask's runs fill the image.
    """
    # the arrays, each in its type
    height, width = _convert("size", arrays["size"], "int64", ()).tolist()
    tensors = {
        name: _convert(name, arrays[name], *kind) for name, kind in SUPERPIXEL_ARRAYS.items()
    }
    record = Superpixels(size=(height, width), **tensors)

    # one row for each mask
    offsets, masks = record.offsets, len(record)
    lengths = {len(tensor) for name, tensor in tensors.items() if name not in ("counts", "offsets")}
    if lengths != {masks} or len(offsets) != masks + 1:
        raise ValueError(f"arrays of lengths {sorted(lengths)} for {masks} masks")
    if (record.level > 2).any() or (record.area < 1).any():
        raise ValueError("levels other than 0, 1, 2, or masks without a pixel")
    if not (record.predicted_iou.isfinite() & record.stability.isfinite()).all():
        raise ValueError("predicted IoU or stability that is no number")
    _check_runs(record)
    return record


def _check_runs(record: Superpixels) -> None:
    """Raise ValueError unless the runs of every mask fill the image, and its area."""
    # runs that belong to masks
    offsets, counts, masks = record.offsets, record.counts, len(record)
    if (
        int(offsets[0]) != 0
        or int(offsets[-1]) != len(counts)
        or (offsets.diff() < 1).any()
        or (counts < 0).any()
    ):
        raise ValueError("run lengths that do not belong to the masks")

    # as many pixels as the image has, as many inside as the mask
    height, width = record.size
    owner, position = torch.repeat_interleave(offsets.diff()), torch.arange(len(counts))
    filled = torch.zeros(2, masks, dtype=torch.int64)
    filled.index_put_(((position - offsets[owner]) % 2, owner), counts.long(), accumulate=True)
    if (filled.sum(0) != height * width).any() or (filled[1] != record.area).any():
        raise ValueError(
            f"run lengths that do not fill an image of {height} x {width} pixels, or other areas"
        )


def _convert(name: str, array: np.ndarray, dtype: str, row: tuple[int, ...]) -> Tensor:
    """Return an array in its documented type.

    Raises:
        ValueError: where it is of another kind or shape, or overflows.
    """
    kinds = "iu" if "int" in dtype else "f"
    if array.dtype.kind not in kinds or array.ndim != 1 + len(row) or array.shape[1:] != row:
        raise ValueError(
            f"{name} of {array.dtype} and shape {array.shape}, expected {dtype} of {('n', *row)}"
        )
    converted = array.astype(dtype)
    if kinds == "iu" and (converted != array).any():
        raise ValueError(f"{name} with numbers that {dtype} does not hold")
    return torch.from_numpy(converted)


def _halve_maps(
    maps: Float[np.ndarray, "P h w"],
) -> tuple[Float[np.ndarray, "P h w"], Float[np.ndarray, "P"]]:
    scale = np.abs(maps).max(axis=(1, 2), initial=0)
    scale[scale == 0] = 1
    return (maps / scale[:, None, None]).astype(np.float16), scale


def _restore_maps(arrays: Mapping[str, np.ndarray], name: str) -> Tensor | None:
    if name not in arrays:
        return None
    maps, scale = _widen(name, arrays[name]), arrays.get(f"{name}_scale")
    if scale is None:
        return torch.from_numpy(maps)
    if scale.shape != maps.shape[:-2]:
        raise ValueError(f"{name}_scale of shape {scale.shape} for {name} of {maps.shape}")
    return torch.from_numpy(maps * _widen(f"{name}_scale", scale)[..., None, None])


def _widen(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in float32; raises ValueError for what are no numbers."""
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name} of {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # infinity is refused
        return array.astype(np.float32)
