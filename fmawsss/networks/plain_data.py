"""Checks of the plain data in a checkpoint: what is not as it should be is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fmawsss.files.texts import check_class_names

DISTRUST = "do not trust this file"
LARGEST = 1000.0  # means and deviations of images, whose values are 0 to 1


def make_plain(data: Any) -> Any:
    """Return a copy of dictionaries, lists, numbers and strings; raises ValueError for others."""
    try:
        return json.loads(json.dumps(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the checkpoint's settings are no plain data ({error}): {DISTRUST}"
        ) from error


def shorten_places(data: Any) -> Any:
    """Shorten absolute paths, at any depth, to their last names: a checkpoint goes to others.

    >>> shorten_places({"root": "/home/ada/photos", "sizes": [1, "outputs/shapes"]})
    {'root': 'photos', 'sizes': [1, 'outputs/shapes']}
    """
    if isinstance(data, Mapping):
        return {key: shorten_places(value) for key, value in data.items()}
    if isinstance(data, list):
        return [shorten_places(value) for value in data]
    return Path(data).name if isinstance(data, str) and Path(data).is_absolute() else data


def require_mapping(data: Any, what: str) -> dict[str, Any]:
    """Return a dictionary; raises ValueError for anything else."""
    if not isinstance(data, dict):
        raise ValueError(f"the checkpoint's {what} is no dictionary: {DISTRUST}")
    return data


def require_keys(data: Any, keys: set[str], what: str) -> dict[str, Any]:
    """Return a dictionary that has exactly these keys; raises ValueError naming the others."""
    # Neither more nor less
    found = set(require_mapping(data, what))
    if found - keys:
        raise ValueError(
            f"the checkpoint wants to change {', '.join(sorted(found - keys))} in {what}, "
            f"expected only {', '.join(sorted(keys))}: {DISTRUST}"
        )
    if keys - found:
        raise ValueError(f"the checkpoint's {what} lacks {', '.join(sorted(keys - found))}")
    return dict(data)


def read_names(names: Any, what: str) -> tuple[str, ...]:
    """Return names as they are; raises ValueError for what is no list of strings."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the checkpoint's {what} are no list of names: {DISTRUST}")
    return tuple(names)


def read_classes(names: Any, what: str) -> tuple[str, ...]:
    """Return the names of classes; raises ValueError for what cannot be such a list."""
    classes = read_names(names, what)
    try:
        check_class_names(classes)
    except ValueError as error:
        raise ValueError(f"the checkpoint's {what} cannot be used: {error}") from None
    if not classes:
        raise ValueError(f"the checkpoint's {what} are none: {DISTRUST}")
    return classes


def read_channels(numbers: Any, what: str, least: float) -> tuple[float, ...]:
    """Return a number for each of the three channels; raises ValueError for anything else."""
    if (
        not isinstance(numbers, list)
        or len(numbers) != 3
        or not all(type(one) in (int, float) and least <= one <= LARGEST for one in numbers)
    ):
        raise ValueError(
            f"the checkpoint's {what} is not three numbers from {least:g} to {LARGEST:g}: "
            f"{DISTRUST}"
        )
    return tuple(map(float, numbers))


def read_palette(palette: Any, colours: int) -> UInt8[np.ndarray, "R 3"]:
    """Return a palette of so many colours; raises ValueError for anything else."""
    # Rows of numbers
    try:
        found = np.array(palette)
    except ValueError:  # rows of several lengths
        found = np.array(None)

    # Three bytes each
    if found.shape != (colours, 3) or found.dtype.kind not in "iu" or not is_byte(found):
        raise ValueError(
            f"the checkpoint's palette is not {colours} colours, background included, of 0 to 255"
        )
    return found.astype(np.uint8)


def is_byte(values: np.ndarray) -> bool:
    """Say whether all values lie between 0 and 255."""
    return bool(((values >= 0) & (values <= 255)).all())


def read_weights(state: Any) -> Mapping[str, Tensor]:
    """Return tensors by their names; raises ValueError for anything else."""
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(f"the checkpoint's state_dict does not hold tensors alone: {DISTRUST}")
    strange = [name for name, value in state.items() if not is_stored(value)]
    if strange:
        raise ValueError(
            f"the checkpoint's state_dict holds {len(strange)} tensors without a number of their "
            f"own for each place, first {strange[0][:80]!r}: {DISTRUST}"
        )
    return state


def is_stored(tensor: Tensor) -> bool:
    """Say whether every element of a tensor has a place of its own in memory."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_complex()
        and not tensor.is_quantized
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )


def check_weights(wanted: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless weights have the names and shapes that are wanted, and are numbers.

    What is no number may stand where it is wanted, too, as in a table of minus infinity.
    """
    # Those of another network
    shapes = {name: describe_tensor(value) for name, value in wanted.items()}
    found = {name: describe_tensor(value) for name, value in learned.items()}
    strange = sorted({name for name, _ in shapes.items() ^ found.items()})
    if strange:
        raise ValueError(
            f"its weights belong to another network, {len(strange)} differ: "
            f"{', '.join(name[:80] for name in strange[:3])}"
        )

    # Numbers
    broken = [
        name
        for name, value in learned.items()
        if not value.isfinite().all() and wanted[name].isfinite().all()
    ]
    if broken:
        raise ValueError(
            f"{len(broken)} of its weights are not finite, first {broken[0]}: its training went "
            "wrong; name another checkpoint with ckpt=PATH, or train again"
        )


def describe_tensor(tensor: Tensor) -> tuple[tuple[int, ...], bool]:
    """Return the shape of a tensor, and whether it holds floats of any precision."""
    return tuple(tensor.shape), tensor.is_floating_point()
