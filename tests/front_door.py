"""Walk the user's road in one process: the real entry points with command-line overrides."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from stages.words import translate

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
    try:
        main()
    finally:  # Hydra's logging levels would outlive the run and change what other tests see
        for name in ("fmawsss", "datamodules", "callbacks", "stages"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def compose_config(name: str, *overrides: str, hydra: bool = False) -> DictConfig:
    """Compose `train` or `infer` as the door would, without running it; a copy of one's own."""
    return pickle.loads(compose_once(name, tuple(translate(overrides)), hydra))


@cache
def compose_once(name: str, overrides: tuple[str, ...], hydra: bool) -> bytes:
    """Compose a config that no test composed before; pickled, it costs the collector nothing."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        words = translate(list(overrides))
        return pickle.dumps(compose(name, words, return_hydra_config=hydra))


def read_once(load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let `OmegaConf.load` parse each file once; to parse them is half of composing."""
    parsed: dict[tuple[str, int, int], bytes] = {}

    def load_once(source: Any) -> Any:
        path = Path(source if isinstance(source, str | Path) else source.name)
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size)
        if key not in parsed:
            parsed[key] = pickle.dumps(load(source))
        return pickle.loads(parsed[key])

    return load_once
