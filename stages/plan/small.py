"""The config of a run made small: the same stages on a few images, below a folder of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from datamodules.base import SegmentationDataModule
from lightning_modules.superpixels import SuperpixelModule
from stages.assembly import build_run
from stages.builder import StageBuilder
from stages.checkpoints import find_checkpoint
from stages.config import list_nodes
from stages.plan.left import Left
from stages.stage import Stage
from stages.words import translate

STEPS = 8  # of a training, at most
NEVER = 10**9  # steps


@dataclass(frozen=True)
class SmallBuilder(StageBuilder):
    """Build a stage that sees some images only.

    only: their names.
    module: what learns and predicts, where it knows no places on disk.
    """

    only: Collection[str] = ()
    module: L.LightningModule | None = None

    def build_data(self, **views: Any) -> SegmentationDataModule:
        """Build the data set, with these images alone."""
        return super().build_data(only=self.only, **views)

    def make_module(self, *told: Any, **settings: Any) -> L.LightningModule:
        """Take the module of the run itself: its weights are large."""
        return self.module if self.module is not None else super().make_module(*told, **settings)


def spare_disk(cfg: DictConfig, folder: Path) -> None:
    """Have what a data set makes of itself made in a folder, unless it is there."""
    for key in ("root", "frames"):
        made = key == "frames" or "draw_seed" in cfg.dataset
        if made and key in cfg.dataset and not Path(cfg.dataset[key]).exists():
            cfg.dataset[key] = str(folder / key)


def make_small(cfg: DictConfig, folder: Path) -> DictConfig:
    """Copy a config, for few steps and with all that it writes below a folder."""
    small = deepcopy(cfg)
    small.paths.work = small.paths.base = str(folder)
    if small.trainer.get("strategy") is not None:  # one process is timed
        small.trainer.devices, small.trainer.strategy = 1, "auto"

    for node in list_nodes(small).values():
        runtime = node.runtime
        runtime.val_every = runtime.apply_step = None
        runtime.also_scored, runtime.exports = [], {}
        runtime.save_every = NEVER
        if node.training.view is not None:
            loop = node.training.loop
            loop.max_steps, node.training.view.shots = min(loop.max_steps, STEPS), None
        for key in ("output", "overlays", "checkpoint", "steps"):
            path = runtime[key]
            if path is not None and not Path(path).is_relative_to(folder):
                runtime[key] = str(folder / "elsewhere" / node.name / Path(path).name)
    return small


def build_small(
    small: DictConfig,
    place: str,
    stage: Stage,
    left: Left,
    only: Collection[str],
    inputs: Mapping[str, Path],
) -> Stage:
    """Build a stage of a small config that stands for `stage`, reading `inputs`."""
    node = list_nodes(small)[place]
    for section in (node.training.inputs, node.prediction.inputs):
        for name in section:
            if name in inputs and section[name] is not None:
                section[name] = str(inputs[name])
    there = stage.learns and not left.learns
    ckpt = str(find_checkpoint(stage)) if there else None
    run = replace(build_run(small, [stage.name]), ckpt=ckpt, shard=None)
    module = None if "list_images" in node.takes else stage.module
    builder = SmallBuilder(small, place, node, run, left.learns, only=only, module=module)
    return builder.build()


def compose_cutter(cfg: DictConfig, words: list[str]) -> SuperpixelModule:
    """Build what cuts images into superpixels as other words of the command line choose it."""
    loader = GlobalHydra.instance().config_loader()
    typed = ["task=superpixels", "dataset=folder", "dataset.root=.", *words]
    chosen = loader.load_configuration("infer", translate(typed), RunMode.RUN)
    chosen.paths = cfg.paths
    run = build_run(chosen, ["superpixels"])
    module = StageBuilder(chosen, "stage", chosen.stage, run, False).make_module(())
    assert isinstance(module, SuperpixelModule)
    return module


def knows_choice(words: str) -> bool:
    """Say whether every option of these words is there."""
    loader = GlobalHydra.instance().config_loader()
    pairs = [word.split("=") for word in words.split()]
    return all(option in loader.get_group_options(group) for group, option in pairs)
