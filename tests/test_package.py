"""What `pip install` takes along: every folder of the program, below one name."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import yaml
from front_door import ROOT

import fmawsss
import fmawsss.__main__ as program

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUP = PROJECT["tool"]["setuptools"]
ROOMS = ("callbacks", "datamodules", "lightning_modules", "stages")


def test_every_folder_of_code_is_taken_along():
    own = [path.parent.relative_to(ROOT) for path in (ROOT / "fmawsss").rglob("__init__.py")]
    others = [path.parent for room in ROOMS for path in (ROOT / room).rglob("__init__.py")]
    expected = {".".join(path.parts) for path in own}
    expected |= {".".join(["fmawsss._app", *path.relative_to(ROOT).parts]) for path in others}
    assert set(SETUP["packages"]) == expected | {"fmawsss._app.conf"}
    assert SETUP["py-modules"] == [f"fmawsss._app.{door}" for door in program.DOORS]


def test_every_file_is_taken_along():
    """What is no Python of a package is matched by the patterns of its package."""
    for room in ("fmawsss", *ROOMS, "conf"):
        for path in (ROOT / room).rglob("*"):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            code = path.suffix == ".py" and (path.parent / "__init__.py").exists()
            assert (code and room != "conf") or is_data(path), path


def is_data(path):
    """Say whether a file matches a pattern of `package-data`."""
    for package, patterns in SETUP["package-data"].items():
        folder = ROOT.joinpath(*package.removeprefix("fmawsss._app.").split("."))
        if path.is_relative_to(folder) and any(path in folder.glob(found) for found in patterns):
            return True
    return False


def test_every_place_says_the_same_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert fmawsss.__version__ == PROJECT["project"]["version"] == citation["version"]


def call(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fmawsss", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_program_says_what_it_knows():
    assert call("--version").stdout == f"fmawsss {fmawsss.__version__}\n"
    assert "fmawsss train --help" in call("--help").stdout
    failed = call("tran")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[0] == "tran: expected train or infer"


def test_the_program_opens_the_doors_of_a_checkout(tmp_path):
    found = call(
        "infer", "task=check", f"dataset.root={tmp_path}", "dataset=folder", "--cfg", "job"
    )
    assert found.returncode == 0
    assert f"root: {tmp_path}" in found.stdout
