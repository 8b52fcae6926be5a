"""Every logger gets the losses of a stage; W&B works offline and without an account."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_door import run

import train

QUICK = [
    "dataset.train_images=3",
    "dataset.val_images=1",
    "prompts=foreground",
    "loop.max_steps=2",
    "save_every=2",
    "trainer.log_every_n_steps=1",
]
FILES = {"csv": "cls/metrics.csv", "tensorboard": "cls/events.out.*", "wandb": "wandb/offline-run-*/run-*.wandb"}


def find_runs(folder: Path) -> Path:
    return next((folder / "outputs/shapes/runs").iterdir())


@pytest.mark.parametrize("logger", sorted(FILES))
def test_losses_are_logged(logger, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    without_superpixels = ["data.superpixels=null", "writers.seeds.kind=caa"]
    run(train.main, monkeypatch, "task=cls", f"logger={logger}", *without_superpixels, *QUICK, *places)
    files = list(find_runs(tmp_path).glob(FILES[logger]))
    assert files
    assert all(file.stat().st_size > 0 for file in files)
    if logger == "csv":
        assert "train/loss" in files[0].read_text()
