"""JSON on disk: written whole or not at all, and named when it is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fmawsss.files.writing import write_bytes

REMAKE = "delete it and run the command that made it again"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, remedy: str = REMAKE) -> Any:
    """Read JSON; raise ValueError naming the file, and the remedy, when it is broken."""
    try:
        return json.loads(require_file(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): {remedy}") from error


def require_file(path: Path) -> Path:
    """Return the path of a file; raise FileNotFoundError when there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no file {path}: run the command that makes it, or correct the path"
        )
    return Path(path)
