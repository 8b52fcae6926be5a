"""Read files of tensors: nothing in them is run, and what is broken is refused by name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch


def read_tensors(path: str | Path, remedy: str) -> Any:
    """Read what `torch.save` wrote to the CPU, tensors and plain data only.

    Raises ValueError for anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch has many kinds for one fault
        raise ValueError(f"{path} cannot be read ({describe_fault(error)}): {remedy}") from None


def describe_fault(error: Exception) -> str:
    """Say in a few lines what torch found, without its advice to read the file unsafely."""
    if isinstance(error, UnpicklingError):
        return "it is cut off, or holds other things than tensors"
    return "\n".join(str(error).splitlines()[:5]) or type(error).__name__


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Let errors about what a file holds say which file it is."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error


def require_whole(path: Path, remedy: str) -> None:
    """Raise ValueError for a file of `torch.save` that lacks its end, without reading all of it."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} cannot be read (it is cut off, or of another kind): {remedy}")
