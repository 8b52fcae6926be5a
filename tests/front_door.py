"""Walk the user's road in one process: the real entry points with command-line overrides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from stages.door import register_resolvers
from stages.words import translate

register_resolvers()  # as a door does when it is imported
ROOT = Path(__file__).parents[1]

# A pipeline of seconds: few images, few steps, few points
QUICK = [
    "dataset.train_images=6",
    "dataset.val_images=3",
    "stages.superpixels.module.generator.points_per_side=4",
    "stages.cls.loop.max_steps=3",
    "stages.cls.save_every=1",
    "stages.seg.loop.max_steps=3",
    "stages.seg.save_every=1",
    "stages.network.loop.max_steps=3",
    "stages.network.save_every=1",
]


def run(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """Call `train.main` or `infer.main` as the command line would; errors are raised."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["program.py", *overrides])
    main()


def compose_config(name: str, *overrides: str, hydra: bool = False) -> DictConfig:
    """Compose `train` or `infer` as the door would, without running it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose(name, translate(list(overrides)), return_hydra_config=hydra)


def list_options(group: str) -> list[str]:
    """List the options of a group as Hydra does, wherever they are written."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return GlobalHydra.instance().config_loader().get_group_options(group)


def list_groups() -> list[str]:
    """List the groups of options, those within a data set left out."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return GlobalHydra.instance().config_loader().list_groups("")


def is_gathered(path: Path) -> bool:
    """Say whether a file of `conf/` holds the options of a group side by side."""
    return path.parent == ROOT / "conf" and not path.read_text().count("\ndefaults:")
