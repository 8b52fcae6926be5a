"""The one-way flow: conf → train/infer → lightning_modules, datamodules, callbacks → fmawsss."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from front_door import ROOT

FORBIDDEN = {
    "fmawsss": {
        "lightning",
        "hydra",
        "omegaconf",
        "wandb",
        "lightning_modules",
        "datamodules",
        "callbacks",
    },
    "datamodules": {"hydra", "omegaconf", "wandb", "lightning_modules", "callbacks"},
    "lightning_modules": {"hydra", "omegaconf", "wandb", "callbacks"},
    "callbacks": {"hydra", "omegaconf"},
}


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_do_not_know_what_they_must_not(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not FORBIDDEN[room] & set(imported_packages(path)), path


def test_the_method_loads_neither_lightning_nor_hydra():
    code = "import sys, pkgutil, importlib, fmawsss\n"
    code += "for m in pkgutil.walk_packages(fmawsss.__path__, 'fmawsss.'): importlib.import_module(m.name)\n"
    code += "assert not {'lightning', 'hydra'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
