"""The notebooks of `docs/notebooks/` run from their first cell to their last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from front_door import ROOT

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
RUN = "__import__('subprocess').run(f{!r}, shell=True, check=True)"


def read_program(path: Path) -> str:
    """Join the cells of a notebook; `!command {name}` is a command of the shell."""
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n".join(code).splitlines()
    return "\n".join(RUN.format(line[1:]) if line.startswith("!") else line for line in lines)


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "cam_and_seed",
        "correct_labels",
        "correct_masks",
        "sweep",
    ]
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "index.md").read_text()
    assert all(text.count(f"notebooks/{path.name}") >= 1 for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    program = re.sub(r"run\(f'python ", f"run(f'{sys.executable} ", read_program(path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=path.parent, env=environment, check=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_output(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
