"""Two processes (gloo, CPU) descend as one on the whole batch, and write the same seeds."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from front_door import ROOT, run

import train
from fmawsss.files.png import read_mask, write_palette_png
from fmawsss.viz import make_palette

TASK = [
    "task=cls",
    "data.superpixels=null",
    "writers.seeds.kind=caa",
    "trainer.log_every_n_steps=1",
]
QUICK = ["dataset.train_images=16", "dataset.val_images=3", "loop.max_steps=3", "save_every=3"]
NETWORK = [
    "task=network",
    "network.build.width=16",
    "data.batch_size=4",
    "trainer.log_every_n_steps=1",
]
NETWORK.append("seeds=${paths.data}/shapes-0/SegmentationClass")
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def train_alone(
    folder: Path, name: str, patch: pytest.MonkeyPatch, overrides: Sequence[str] = TASK
) -> Path:
    run(train.main, patch, *overrides, *QUICK, *places(folder, name))
    return folder / name / "shapes"


def train_in_two(folder: Path, name: str, overrides: Sequence[str] = TASK) -> Path:
    words = [*overrides, *QUICK, *places(folder, name), *TWO]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process
    command = [sys.executable, str(ROOT / "train.py"), *words]
    subprocess.run(command, check=True, cwd=folder, timeout=300, env=alone)
    return folder / name / "shapes"


def places(folder: Path, name: str) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/{name}"]


def read_losses(work: Path) -> list[float]:
    with next(work.glob("runs/*/*/metrics.csv")).open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_two_processes_give_what_one_gives(tmp_path, monkeypatch):
    one, two = train_alone(tmp_path, "one", monkeypatch), train_in_two(tmp_path, "two")
    assert read_losses(two) == pytest.approx(read_losses(one), rel=1e-5)
    seeds = {path.name: path.read_bytes() for path in (one / "seeds/coarse").glob("*.png")}
    assert len(seeds) == 16
    assert {path.name: path.read_bytes() for path in (two / "seeds/coarse").glob("*.png")} == seeds


def test_two_processes_train_the_network_that_one_trains(tmp_path, monkeypatch):
    """The ignored pixels are not shared out evenly: the mean is over the pixels of both."""
    train_alone(tmp_path, "data_only", monkeypatch, [*NETWORK, "loop.max_steps=1", "save_every=1"])
    masks, seeds = tmp_path / "data/shapes-0/SegmentationClass", tmp_path / "seeds"
    for index, path in enumerate(sorted(masks.glob("train_*.png"))):
        mask = read_mask(path)
        mask[: 6 * index] = 255
        write_palette_png(seeds / path.name, mask, make_palette(256))
    overrides = [*NETWORK, f"seeds={seeds}", "augment=none", "val_every=3"]
    one = train_alone(tmp_path, "one", monkeypatch, overrides)
    two = train_in_two(tmp_path, "two", overrides)
    assert read_losses(two) == pytest.approx(read_losses(one), rel=1e-5)
    states = [
        torch.load(work / "network.ckpt", weights_only=True)["state_dict"] for work in (one, two)
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)
    records = [
        json.loads((work / "network.ckpt.validations.jsonl").read_text()) for work in (one, two)
    ]
    assert records[1]["details"]["worst_images"].keys() == {
        f"val_{index:05d}" for index in range(3)
    }
    confusions = [torch.tensor(record["details"]["confusion"]) for record in records]
    assert (confusions[0].sum(1) == confusions[1].sum(1)).all()
