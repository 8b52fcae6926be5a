"""debug= runs a shortened method in a folder of its own, and leaves real products alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from front_door import run

import train

FEW = ["dataset.train_images=6", "dataset.val_images=5"]
NETWORK = ["task=network", "seeds=${paths.data}/shapes-0/SegmentationClass", "data.batch_size=4"]
NETWORK += ["network.build.width=16", "report=none"]


def learn(patch: pytest.MonkeyPatch, folder: Path, *words: str) -> Path:
    """Train in a folder; return where debugging writes to."""
    patch.chdir(folder)
    run(train.main, patch, *FEW, *words)
    return folder / "outputs/shapes/debug"


def test_fast_takes_one_step_and_few_images_anew(tmp_path, monkeypatch):
    made = learn(monkeypatch, tmp_path, *NETWORK, "debug=fast") / "fast"
    assert len([*(made / "masks").iterdir()]) == 4
    assert [path.name for path in (made / "checkpoints/network").iterdir()] == ["step_000001.ckpt"]
    assert [path.name for path in made.parents[1].glob("[!.]*")] == ["debug"]

    # and again, as nothing is ever complete there
    before = (made / "network.ckpt").stat().st_mtime_ns
    learn(monkeypatch, tmp_path, *NETWORK, "debug=fast")
    assert (made / "network.ckpt").stat().st_mtime_ns > before


def test_overfit_sees_one_batch(tmp_path, monkeypatch):
    words = [*NETWORK, "debug=overfit", "options.steps=12", "optimizer.lr=0.01"]
    made = learn(monkeypatch, tmp_path, *words) / "overfit"
    with next(made.glob("runs/*/*/metrics.csv")).open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2


def test_profile_says_where_the_time_went(tmp_path, monkeypatch):
    words = [*NETWORK, "debug=profile", "options.steps=2"]
    made = learn(monkeypatch, tmp_path, *words) / "profile"
    for action in ("fit-network_learn", "predict-network_apply"):
        (told,) = made.glob(f"runs/*/{action}.txt")
        assert "Profiler Report" in told.read_text()


def test_a_sweep_is_not_debugged(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="debug=fast belongs to one run"):
        run(train.main, monkeypatch, "-m", "seed=0,1", "debug=fast", f"paths.outputs={tmp_path}")
    assert not [*tmp_path.rglob("run.json")]
