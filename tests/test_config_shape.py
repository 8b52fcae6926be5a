"""The shape of the config: few keys at the top, short climbs, one spelling, one door per number."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from front_door import ROOT, compose_config, is_gathered

FILES = sorted((ROOT / "conf").rglob("*.yaml"))
CLIMB = re.compile(r"\$\{(\.+)")
TASKS = sorted(path.stem for path in (ROOT / "conf/task").glob("[!_]*.yaml"))
DATASETS = sorted(path.stem for path in (ROOT / "conf/dataset").glob("*.yaml"))
TOP = 16  # keys


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("demo", "next")])
def test_a_task_has_few_keys_at_the_top(task: str) -> None:
    door = "train" if task == "pipeline" else "infer"
    words = ["cams=cams"] if task == "seeds" else []
    assert len(compose_config(door, f"task={task}", *words)) <= TOP


def test_no_interpolation_climbs_more_than_two_levels() -> None:
    for path in FILES:
        for dots in CLIMB.findall(path.read_text(encoding="utf-8")):
            assert len(dots) <= 3, path  # one dot is a sibling


def test_functions_have_one_spelling() -> None:
    for path in FILES:
        assert "get_method" not in path.read_text(encoding="utf-8"), path


def test_a_yaml_opens_with_a_sentence() -> None:
    for path in FILES:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        first = lines[1] if lines[0].startswith("# @package") else lines[0]
        assert first.startswith("# "), path


def test_an_option_among_others_opens_with_a_sentence() -> None:
    for path in filter(is_gathered, FILES):
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in pairwise(lines):
            assert before.startswith("# ") or not re.match(r"\w", line), f"{path}: {line}"


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_data_set_states_its_splits_once(dataset: str) -> None:
    root = ["dataset.root=photos"] if dataset == "folder" else []
    words = ["task=cls", f"dataset={dataset}", *root, "dataset.splits.train=elsewhere"]
    cfg = compose_config("train", *words)
    assert cfg.stage.training.view.split == cfg.stage.runtime.apply_to == "elsewhere"


def test_the_background_power_has_one_door() -> None:
    words = ["task=cls", "dataset=voc"]
    new = compose_config("train", *words, "seeding.sams.background_power=0.5")
    assert new.stage.applying.seeding.sams.background_power == 0.5
    for old in ("background_power.sams=0.5", "seeding.sams.background.power=0.5"):
        assert compose_config("train", *words, old) == new


def test_experiments_are_the_published_pipelines() -> None:
    for name in ("voc", "coco"):
        assert compose_config("train", f"experiment={name}") == compose_config(
            "train", f"dataset={name}"
        )
