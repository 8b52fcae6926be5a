"""Every option of every group composes; all it names exists and takes the settings given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from front_door import compose_config, list_groups, list_options
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_method, get_object
from omegaconf import OmegaConf

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
    "dataset=folder": "dataset.root=photos",
    "network=own": "network.build._target_=torch.nn.Identity",
}  # what a person must name
UNSET |= dict.fromkeys(
    (f"dataset/labels={name}" for name in ("file", "list", "coco_json")), "dataset.labels.path=FILE"
)
STAGE_GROUPS = {
    "prompts": "cls",
    "affinity": "cls",
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
