"""Every group with every task of both doors: an option acts, or it is refused or told."""

from __future__ import annotations

from typing import Any

import pytest
from front_door import ROOT, compose_config
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf

from stages.idle_words import WEIGHTS, list_acting, refuse_idle

pytestmark = pytest.mark.slow

# one option of each group that no data set takes by itself; what describes the data is left out
OPTIONS = {
    "affinity": "none", "augment": "none", "averaging": "ema", "cache": "features",
    "callbacks": "cams", "clip": "vit_l14", "criterion": "agreement", "format": "onnx",
    "inference": "sliding", "logger": "wandb", "loss": "su", "masks": "fast",
    "network": "segformer_b5", "optimizer": "sgd", "prompts": "words", "refine": "crf",
    "report": "default", "sam": "vit_b", "save_as": "[voc]", "scheduler": "warmup_cosine",
    "seeding": "sams_alpha", "speed": "half", "targets": "soft", "trainer": "ddp",
}  # fmt: skip
TASKS = sorted(path.stem for path in (ROOT / "conf/task").glob("[!_]*.yaml"))
JOBS = {"check", "demo", "export", "prepare", "report"}
NEEDED = {"seeds": ["cams=CAMS"]}


def compose_run(door: str, *words: str) -> dict[str, Any]:
    """Compose a run as the door does, and judge its words."""
    cfg = compose_config(door, *words, hydra=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    refuse_idle(cfg, learning=door == "train")
    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    return {"acting": list_acting(cfg, door == "train"), **content}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("door", ["train", "infer"])
def test_every_option_acts_or_is_refused_or_told(door: str, task: str) -> None:
    if door == "train" and task in JOBS:
        return  # learns nothing, refused as a whole
    words = [f"task={task}", *NEEDED.get(task, [])]
    usual = compose_run(door, *words)
    for group, option in OPTIONS.items():
        try:
            found = compose_run(door, *words, f"{group}={option}")
        except (HydraException, ValueError):
            continue
        if group in WEIGHTS:
            continue
        changed = {key for key in found if found[key] != usual.get(key)}
        read = changed & (found["acting"] | {"stage", "stages", "job"})
        assert read or not changed, f"{door}.py task={task} {group}={option} is passed over"
