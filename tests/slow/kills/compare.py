"""What a run left, in a form that two runs in two folders share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# Times, machines and numbers of runs; what is drawn from them
VOLATILE = ("runs/", "report.html", "log_", ".files.jsonl", ".checked_files.json")
VOLATILE_IN_SWEEPS = (
    ".hydra/",
    "config.yaml",
    "multirun.yaml",
    "run.json",
    "train.log",
    "summary.",
)
STAMPS = {"modified", "truth_stamp"}  # of files that each story draws anew
STAMPS_IN_SWEEPS = {"seconds", "digest"}  # of words, folders among them


def read_all(folder: Path) -> dict[str, Any]:
    """Read every file of a folder that does not tell times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        volatile = VOLATILE + VOLATILE_IN_SWEEPS * name.startswith("sweep/")
        if path.is_file() and not any(part in name for part in volatile):
            found[name] = read(path, folder)
    return found


def read(path: Path, folder: Path) -> Any:
    """Read one file: tensors of a checkpoint, lines of a journal in any order, bytes of others."""
    if path.suffix == ".ckpt":
        return digest(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    text = path.read_bytes()
    if path.suffix in (".json", ".jsonl", ".yaml"):
        named = text.decode().replace(str(folder), "FOLDER")
        if path.suffix == ".yaml":
            return named
        if path.suffix == ".json":
            return without_stamps(json.loads(named))
        return sorted(json.dumps(without_stamps(json.loads(line))) for line in named.splitlines())
    return hashlib.sha256(text).hexdigest()


def digest(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Digest tensors by name."""
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in state.items()
    }


def without_stamps(value: Any) -> Any:
    """Drop times of files, at any depth."""
    if isinstance(value, dict):
        stamps = STAMPS | STAMPS_IN_SWEEPS if "overrides" in value else STAMPS
        return {k: without_stamps(v) for k, v in value.items() if k not in stamps}
    if isinstance(value, list):
        return [without_stamps(item) for item in value]
    return value


def list_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """List what one run left and the other not, and what they left otherwise."""
    missing = [f"missing: {name}" for name in expected.keys() - found.keys()]
    besides = [f"besides: {name}" for name in found.keys() - expected.keys()]
    shared = found.keys() & expected.keys()
    differing = [f"differs: {name}" for name in shared if found[name] != expected[name]]
    return sorted(missing + besides + differing)
