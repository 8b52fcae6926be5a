"""Every number and every switch in conf/ has a range, which is checked before anything is built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from front_door import ROOT, compose_config, is_gathered

import infer
import train
from stages.config import check_config
from stages.range_check import KNOWN, find_range
from stages.word_tables import GROUPS

FILES = sorted((ROOT / "conf").rglob("*.yaml"))
# Arguments of functions of libraries, and of sweeps, which read their own
FREE = {"hydra"}
QUIET = "logger=none"  # the others ask Hydra for the folder of the run
TASKS = sorted(path.stem for path in (ROOT / "conf/task").glob("[!_]*.yaml"))
DATASETS = sorted(path.stem for path in (ROOT / "conf/dataset").glob("*.yaml"))


def list_nodes(path) -> list[Any]:
    """List what a file holds: one config, or the options of a group."""
    node = yaml.safe_load(path.read_text())
    return list(node.values()) if is_gathered(path) else [node]


def find_package(path) -> str:
    """Find where the settings of a file go, from its header or its group."""
    header = path.read_text().partition("\n")[0]
    if header.startswith("# @package"):
        return header.split()[2].replace("_global_", "")
    group = path.parent.relative_to(ROOT / "conf").as_posix()
    if is_gathered(path):
        group = path.stem.replace(".", "/")
    if group == ".":
        return ""
    places = {"task": "stage", "criterion": "criterion", "format": "job"}
    if group in GROUPS:
        return f"stage.{GROUPS[group]}".rstrip(".")
    return places.get(group, group.replace("/", "."))


def find_leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """List numbers, switches, and lists of numbers, by key."""
    if isinstance(node, dict):
        for name, value in node.items():
            if not str(name).startswith("_") and name != "defaults":
                yield from find_leaves(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        if any(isinstance(value, int | float) for value in node):
            yield key, node
    elif isinstance(node, int | float):
        yield key, node


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT / "conf").as_posix())
def test_every_number_has_a_range(path):
    leaves = [leaf for node in list_nodes(path) for leaf in find_leaves(node, find_package(path))]
    leaves = [(key, value) for key, value in leaves if key.split(".")[0] not in FREE]
    assert not [key for key, _ in leaves if find_range(key) is None]
    ranges = [(key, value, find_range(key)) for key, value in leaves]
    assert not [(key, value) for key, value, found in ranges if not found.allows(value)]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("task", ["pipeline", "network"])
def test_what_stands_in_conf_is_allowed(task, dataset):
    words = ["dataset.root=photos"] if dataset == "folder" else []
    check_config(compose_config("train", f"task={task}", f"dataset={dataset}", QUIET, *words))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("loop.max_steps=-1", "loop.max_steps=-1: expected a whole number from 1 to 100000000"),
        ("loop.max_steps=many", "loop.max_steps=many: expected a whole number"),
        (
            "data.batch_size=1000000000",
            "data.batch_size=1000000000: expected a whole number from 1 to 4096",
        ),
        ("trainer.devices=99", "trainer.devices=99: expected a whole number from 1 to"),
        ("optimizer.lr=nan", "optimizer.lr=nan: expected a number above 0"),
        ("overwrite=maybe", "overwrite=maybe: expected true or false"),
        ("data.image_std=[1,1]", r"data.image_std=\[1,1\]: expected a list \[a,b,…\] of 3"),
        ("loop=3", "loop=3: expected settings below it"),
        ("loading.workers=-1", "loading.workers=-1: expected a whole number from 0 to 256"),
        ("seed=1.5", "seed=1.5: expected a whole number from 0"),
        ("ckpt=0", "ckpt=0: expected a path, or a step, or null"),
        ("trainer.precision=8", "trainer.precision=8: expected one of 32-true"),
    ],
)
def test_values_outside_are_refused(word, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        check_config(compose_config("train", "task=network", QUIET, word))


def test_the_key_that_others_repeat_is_named():
    with pytest.raises(ValueError, match=r"^loading.batch_size=0: .* from 1 to 4096$"):
        check_config(compose_config("infer", "task=network", QUIET, "loading.batch_size=0"))


def test_modules_of_ones_own_check_their_own_settings():
    word = "optimizer={_target_:mine.Descent,lr:-1}"
    cfg = compose_config("train", "task=network", QUIET, f"++stage.learning.{word}")
    check_config(cfg)
    assert "mine" not in KNOWN


@pytest.mark.parametrize("program", [train, infer])
def test_nothing_is_built_before(program, monkeypatch, tmp_path):
    monkeypatch.setattr("stages.assembly.instantiate", None)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    words = ["task=network", "data.predict_batch_size=-1", f"paths.outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["program.py", *words])
    with pytest.raises(SystemExit, match=r"data.predict_batch_size=-1: expected a whole number"):
        program.main()
    assert {path.name for path in (tmp_path / "shapes").iterdir()} == {"runs"}
