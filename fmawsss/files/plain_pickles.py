"""Read dictionaries of arrays that `np.save` pickled, without running anything that they ask for.

Label files (`cls_labels.npy`) and CAMs of other methods come as such dictionaries. What a pickle
asks for by name is never imported: a closed list of names makes stand-ins that only note what they
are given, and arrays are made of their bytes here.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmawsss.files.json_files import require_file

LARGEST = 1 << 31  # bytes of one array
NUMBERS = re.compile(r"[<>=|]?[fiub][1248]")  # types of arrays that hold nothing but numbers
BROKEN = (Exception,)  # readers of pickles and of storages have many kinds for broken files


class Noted:
    """What a pickle builds from a name of the list: its arguments, and then its state."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments: Any = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Note the state."""
        self.state = state


class Array(Noted):
    """An array of NumPy: its state is (version, shape, type, column order, bytes)."""

    __slots__ = ()


class Kind(Noted):
    """The type of an array."""

    __slots__ = ()

    def read(self) -> np.dtype:
        """Make the type; raises ValueError for one of anything but numbers."""
        text = self.arguments[0]
        if not isinstance(text, str) or not NUMBERS.fullmatch(text):
            raise ValueError(f"an array of type {text!r}, expected numbers")
        return np.dtype(text).newbyteorder(self.state[1] if self.state else "=")


class Scalar(Noted):
    """One number of NumPy: (type, bytes)."""

    __slots__ = ()


class Framed(Noted):
    """An array of a newer pickle: (bytes, type, shape, order)."""

    __slots__ = ()


class Tensor(Noted):
    """A tensor of PyTorch: (storage, offset, size, stride, …)."""

    __slots__ = ()


class Storage(Noted):
    """The bytes of `torch.save` that hold a tensor's numbers."""

    __slots__ = ()


class Name:
    """A name that a pickle may ask for; called, it makes a stand-in."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        """Make it."""
        return self.make(*arguments)


def encode_text(text: str, encoding: str = "latin1") -> bytes:
    """Turn a text of old pickles back into the bytes that it stands for."""
    return text.encode("latin1")


NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    **{
        (f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", Array),
            ("multiarray", "scalar", Scalar),
            ("numeric", "_frombuffer", Framed),
        )
    },
    ("numpy", "ndarray"): Noted,
    ("numpy", "dtype"): Kind,
    ("_codecs", "encode"): encode_text,
    ("__builtin__", "bytes"): lambda: b"",  # of old pickles: an array without values
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch.storage", "_load_from_bytes"): Storage,
}


class PlainReader(pickle._Unpickler):
    """Read a pickle with stand-ins for all that it names.

    The reader in Python: that in C allocates what a file only claims to hold.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what makes the stand-in; raises ValueError for a name that is not on the list."""
        if (module, name) not in NAMES:
            raise ValueError(f"it asks for {module}.{name}, which no array needs")
        return Name(NAMES[module, name])  # a new one each time: a pickle may change it

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what lies elsewhere."""
        raise ValueError("it refers to another file")


def read_pickled_arrays(path: Path) -> dict[str | int, np.ndarray]:
    """Read a `.npy` file that holds one dictionary of arrays, by names or numbers.

    Raises:
        ValueError: naming the file, for anything else: objects, code, an array without names.
    """
    try:
        with require_file(path).open("rb") as file:
            found = read_dictionary(file)
            return {read_key(key): read_value(value) for key, value in found.items()}
    except FileNotFoundError:
        raise
    except BROKEN as error:
        raise ValueError(
            f"{path} is no dictionary of arrays as np.save writes it ({error}): write it again, "
            "with arrays of numbers by name"
        ) from error


def read_dictionary(file: Any) -> dict[Any, Any]:
    """Read the one dictionary of a file; its values are stand-ins and plain values."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, kind = read_header(file)
    if shape != () or kind.kind != "O":
        raise ValueError(f"an array of shape {shape} and type {kind}")
    array = PlainReader(file, encoding="latin1").load()

    # an array without dimensions, around the dictionary
    if not isinstance(array, Array) or not isinstance(array.state, tuple):
        raise ValueError("it holds no array")
    (found,) = array.state[4]
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not a dictionary")
    return found


def read_key(key: Any) -> str | int:
    """Return a key: a text, or a whole number."""
    found = key
    if isinstance(key, Scalar):
        kind, raw = key.arguments
        known = re.fullmatch(r"[<>]?U[0-9]{1,4}", str(kind.arguments[0]))
        found = np.frombuffer(raw, known[0])[0].item() if known else read_value(key).item()
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise ValueError(f"{found!r} is no key, expected texts or whole numbers")
    return found


def read_value(value: Any) -> np.ndarray:
    """Make the array of a value: a stand-in, a number, or a list of numbers."""
    if isinstance(value, Array):
        _, shape, kind, by_columns, raw = value.state
        return build_array(raw, kind, shape, "F" if by_columns else "C")
    if isinstance(value, Framed):
        return build_array(*value.arguments)
    if isinstance(value, Scalar):
        return build_array(value.arguments[1], value.arguments[0], (), "C")
    if isinstance(value, Tensor):
        return build_tensor(*value.arguments[:4])
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{type(value).__name__} where numbers are expected")
    return found


def build_array(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Make an array of its bytes; raises ValueError unless they are as many as it needs."""
    if not isinstance(kind, Kind):
        raise ValueError("an array without a type")
    data = encode_text(raw) if isinstance(raw, str) else bytes(raw)
    return np.frombuffer(data, kind.read()).reshape(shape, order=order)


def build_tensor(storage: Any, offset: int, size: Any, stride: Any) -> np.ndarray:
    """Make an array of a tensor's storage, which PyTorch reads without running code."""
    if not isinstance(storage, Storage) or 8 * math.prod(size) > LARGEST:
        raise ValueError("a tensor without its numbers")
    (raw,) = storage.arguments
    held = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    flat = torch.tensor([], dtype=held.dtype).set_(held)
    return flat.as_strided(tuple(size), tuple(stride), offset).numpy()
