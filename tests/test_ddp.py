"""Two processes (gloo, CPU) descend as one on the whole batch, and write the same seeds."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from front_door import ROOT

TASK = ["task=cls", "data.superpixels=null", "writers.seeds.kind=caa", "trainer.log_every_n_steps=1"]
QUICK = ["dataset.train_images=16", "dataset.val_images=1", "loop.max_steps=3", "save_every=3"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def train(folder: Path, name: str, *overrides: str) -> Path:
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}/{name}"]
    command = [sys.executable, str(ROOT / "train.py"), *TASK, *QUICK, *places, *overrides]
    subprocess.run(command, check=True, cwd=folder, timeout=300)
    return folder / name / "shapes"


def read_losses(work: Path) -> list[float]:
    with next(work.glob("runs/*/cls/metrics.csv")).open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def test_two_processes_give_what_one_gives(tmp_path):
    one, two = train(tmp_path, "one"), train(tmp_path, "two", *TWO)
    assert read_losses(two) == pytest.approx(read_losses(one), rel=1e-5)
    seeds = {path.name: path.read_bytes() for path in (one / "seeds/coarse").glob("*.png")}
    assert len(seeds) == 16
    assert {path.name: path.read_bytes() for path in (two / "seeds/coarse").glob("*.png")} == seeds
