"""Read files of tensors: nothing in them is run, and what is broken is refused by name."""

from __future__ import annotations

import hashlib
import json
import textwrap
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

MODEL = "model.safetensors"
DESCRIPTION = "fmawsss"  # what a checkpoint says beside its weights, as JSON


def read_tensors(path: str | Path, remedy: str) -> Any:
    """Read what `torch.save`, or a safetensors file, holds to the CPU: tensors and plain data only.

    Raises FileNotFoundError without the file, ValueError for anything else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}: correct the path")
    try:
        if Path(path).suffix == Path(MODEL).suffix:
            return read_model(Path(path))
        refuse_bombs(Path(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many kinds for one fault
        raise ValueError(f"{path} cannot be read ({describe_fault(error)}): {remedy}") from None


def read_model(path: Path) -> dict[str, Any]:
    """Read a model of ours: its description, and its weights as `state_dict`."""
    with safe_open(path, framework="pt") as file:
        described = json.loads((file.metadata() or {}).get(DESCRIPTION, "{}"))
        names = file.keys()
        return {**described, "state_dict": {name: file.get_tensor(name) for name in names}}


def refuse_bombs(path: Path) -> None:
    """Raise ValueError for an archive that holds more than its own size: torch packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = sum(entry.file_size for entry in archive.infolist())
    if held > path.stat().st_size:
        raise ValueError(f"it would unpack to {held} bytes: do not trust this file")


def describe_fault(error: Exception) -> str:
    """Say in a line what torch found, without its advice to read the file unsafely."""
    if isinstance(error, UnpicklingError | KeyError | EOFError):
        return "it is cut off, or holds other things than tensors"
    if "PytorchStreamReader" in str(error):
        return "it is cut off, or of another kind"
    lines = str(error).splitlines() or [type(error).__name__]
    # torch names what does not fit from the second line on, all of it
    return textwrap.shorten(lines[lines[0].startswith("Error(s) in loading")], 200)


def require_finite(weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ValueError for weights that are no numbers."""
    broken = [name for name, value in weights if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"{len(broken)} of its weights are no numbers (NaN or infinity), first {broken[0]}"
        )


def digest_weights(module: nn.Module, without: tuple[str, ...] = ()) -> str:
    """Digest the frozen weights of a module: with other weights it makes another product.

    without: parts of the module that do not count.
    """
    left_out = tuple(f"{part}." for part in without)
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad and not name.startswith(left_out):
            digest.update(name.encode() + parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Let errors about what a file holds say which file it is."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
