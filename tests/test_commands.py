"""Every option of every group composes, and so does every printed command, of before as well.

They stand together because they choose the same options: one process merges each but once.
"""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from front_door import ROOT, compose_config, list_groups, list_options
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_method, get_object
from omegaconf import DictConfig, OmegaConf

from benchmarks import compare_trees

ELSEWHERE = {"recipe", "experiment", "task", "dataset", "hydra", "hydra_plugins"}
OPTIONS = [
    f"{group}={name}"
    for group in list_groups()
    if group not in ELSEWHERE
    for name in list_options(group)
]
TASKS = [name for name in list_options("task") if not name.startswith("_")]
LABELS = list_options("dataset/labels")
UNSET = {
    "task=seeds": "cams=CAMS",
    "task=text": "evidence=sam3",
    "dataset=folder": "dataset.root=photos",
    "network=own": "network.build._target_=torch.nn.Identity",
}  # what a person must name
UNSET |= dict.fromkeys(
    (f"dataset/labels={name}" for name in ("file", "list", "coco_json")), "dataset.labels.path=FILE"
)
STAGE_GROUPS = {
    "prompts": "cls",
    "affinity": "cls",
    "region_keys": "cls",
    "seeding": "cls",
    "augment": "cls",
    "optimizer": "cls",
}
LOSS_TASKS = dict.fromkeys(("cam_activation", "cam_activation_l2", "cam_activation_fg_bg"), "seg")
STAGE_GROUPS |= dict.fromkeys(
    ("network", "targets", "averaging", "scheduler", "inference", "refine"), "network"
)
STAGE_GROUPS |= {
    "criterion": "cls",
    "sweep": "cls",
    "callbacks": "cls",
    "masks": "superpixels",
    "speed": "superpixels",
}
STAGE_GROUPS |= {"format": "export"}
LINES = Path(__file__).with_name("commands_fb74c13.txt").read_text().splitlines()
PRINTED = [line for line in LINES if line.startswith("python ")]
COMPARED = compare_trees.read_commands(compare_trees.COMMANDS.read_text(), compare_trees.QUICK)
PARSER = OverridesParser.create()
PAGES = [ROOT / "README.md", *(p for p in (ROOT / "docs").glob("*.md") if p.stem != "extending")]
TEXT = "\n".join(page.read_text() for page in PAGES).replace("\\\n", "")  # one line
COMMANDS = sorted(set(re.findall(r"python (?:train|infer)\.py[^`\n&]*", TEXT)))


def resolve(name: str, *overrides: str) -> dict[str, Any]:
    cfg = compose_config(
        name, *overrides, *(UNSET[choice] for choice in overrides if choice in UNSET)
    )
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"runtime": {"output_dir": "out"}}})
    return OmegaConf.to_container(cfg, resolve=True)


def find_targets(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from find_targets(value)
    if isinstance(node, list):
        for value in node:
            yield from find_targets(value)


def check_targets(config: dict[str, Any]) -> None:
    for node in find_targets(config):
        target = get_object(node["_target_"])
        if target is get_method:
            assert callable(get_object(node["path"]))
        if inspect.isbuiltin(target):  # torch.mean: a function of C has no signature to read
            continue
        parameters = inspect.signature(target).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        unknown = {key for key in node if not key.startswith("_")} - set(parameters)
        assert not unknown, f"{node['_target_']} does not take {unknown}"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option):
    group, _, name = option.partition("=")
    task = [f"task={STAGE_GROUPS[group]}"] if group in STAGE_GROUPS else []
    task = [f"task={LOSS_TASKS.get(name, 'cls')}"] if group == "loss" else task
    entry = "infer" if group in ("save_as", "format") else "train"
    check_targets(resolve(entry, *task, option))


@pytest.mark.parametrize("dataset", list_options("dataset"))
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("entry", ["train", "infer"])
def test_every_task_composes_for_every_dataset(entry, task, dataset):
    check_targets(resolve(entry, f"task={task}", f"dataset={dataset}"))


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("dataset", ["coco", "folder"])
def test_every_source_of_labels_composes(dataset, labels):
    found = resolve("train", "task=cls", f"dataset={dataset}", f"dataset/labels={labels}")
    check_targets(found)
    assert found["dataset"]["labels"]["_target_"].startswith("datamodules.")


@pytest.mark.parametrize("experiment", list_options("experiment"))
def test_every_experiment_composes(experiment):
    check_targets(resolve("train", f"experiment={experiment}"))


@pytest.mark.parametrize(
    "typo", ["experiment=vco", "task=clss", "clip=tinny", "sam=vit_x", "nosuchkey=1", "sweep=seedz"]
)
def test_a_typo_fails(typo):
    with pytest.raises(HydraException):
        compose_config("train", typo)


def split_sweep(words: list[str]) -> Iterator[list[str]]:
    """One job for each value of each word, the other words at their first value."""
    choices = []
    for word in words:
        override = PARSER.parse_override(word)
        swept = override.is_sweep_override() and override.is_choice_sweep()
        values = list(override.sweep_string_iterator()) if swept else []
        choices.append([f"{override.get_key_element()}={value}" for value in values] or [word])

    for several in itertools.zip_longest(*choices):
        yield [value or choice[0] for value, choice in zip(several, choices, strict=True)]


def list_swept(name: str, words: list[str]) -> list[str]:
    """The parameters of a named sweep, as one would type them; intervals are left to Optuna."""
    composed = compose_config(name, *words, hydra=True)
    params = composed.hydra.sweeper.params or {}
    return [f"{key}={value}" for key, value in params.items() if "interval" not in str(value)]


def compose_jobs(name: str, typed: list[str]) -> Iterator[DictConfig]:
    """Compose each job of a command as its door would."""
    words = [word for word in typed if not word.startswith("-") and word != "job"]
    if "-m" not in typed:
        yield compose_config(name, *words)
        return
    named = any(word.startswith("sweep=") for word in words)
    swept = list_swept(name, next(split_sweep(words))) if named else []
    for job in split_sweep([*swept, *words]):
        yield compose_config(name, *job)


@pytest.mark.parametrize("command", PRINTED)
def test_a_command_of_before_still_works(command):
    entry, *typed = shlex.split(command)[1:]
    assert list(compose_jobs(entry.removesuffix(".py"), typed))


@pytest.mark.slow
@pytest.mark.parametrize("command", [command.new for command in COMPARED])
def test_the_commands_that_trees_are_compared_on_compose(command):
    entry, *typed = command.split()
    assert list(compose_jobs(entry.removesuffix(".py"), typed))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_composes(command):
    entry, *overrides = shlex.split(command.replace("DIR", "somewhere"))[1:]
    flags = [word for word in overrides if word.startswith("-")]
    words = [word for word in overrides if not word.startswith("-") and word != "job"]
    assert set(flags) <= {"-m", "--cfg", "--help", "-sc"}
    if "-sc" in flags:  # what follows speaks to Hydra
        words = []
    assert compose_config(entry.removesuffix(".py"), *words).name
