"""A training that is killed around a validation ends with the same best, and the same record."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from front_door import QUICK, run
from lightning.pytorch.callbacks import ModelCheckpoint

import train
from callbacks import validation_record
from lightning_modules.network import NetworkModule
from stages import learn as learning

SCHEDULE = ["loop.max_steps=4", "save_every=1", "val_every=2", "data.batch_size=2"]
VIEWS = ["augment.long_side=[64,96]", "augment.short_side=64", "augment.crop=64"]


def learn(patch: pytest.MonkeyPatch, finished: Path, work: Path, *overrides: str) -> None:
    places = [f"paths.data={finished}/data", f"paths.work={work}", "logger=none", "report=none"]
    seeds = f"seeds={finished}/outputs/shapes/seeds/fine"
    run(
        train.main, patch, "task=network", *QUICK[:2], seeds, *SCHEDULE, *VIEWS, *places, *overrides
    )


def read_products(work: Path) -> list[object]:
    """Return what the training left: weights, the best ones, the record of its validations."""
    files = [torch.load(work / f"{name}.ckpt", weights_only=True) for name in NAMES]
    states = [{name: value.tolist() for name, value in f["state_dict"].items()} for f in files]
    return [*states, (work / "network.ckpt.validations.jsonl").read_text()]


NAMES = ("network", "network_best")


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """The products of a training that nothing disturbed."""
    work = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        learn(patch, finished, work)
    return read_products(work)


def die(*arguments, **settings):
    raise KeyboardInterrupt


def die_after(function):
    def work_and_die(*arguments, **settings):
        function(*arguments, **settings)
        raise KeyboardInterrupt

    return work_and_die


@pytest.mark.parametrize(
    ("owner", "name", "kill"),
    [
        (NetworkModule, "on_validation_epoch_end", die),
        (validation_record, "append_line", die_after),
        (ModelCheckpoint, "on_validation_end", die_after),
        (learning, "keep_best", die),
    ],
    ids=["within a validation", "after its line", "after its checkpoint", "after the last one"],
)
def test_a_kill_around_a_validation_changes_nothing(
    owner, name, kill, whole, finished, tmp_path, monkeypatch
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, kill(getattr(owner, name)) if kill is die_after else kill)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            learn(patch, finished, tmp_path)
    assert not (tmp_path / "network_best.ckpt").exists()
    learn(monkeypatch, finished, tmp_path)
    assert read_products(tmp_path) == whole


def test_a_broken_newest_checkpoint_is_set_aside(whole, finished, tmp_path, monkeypatch, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.learn.keep_best", die)
        with pytest.raises(KeyboardInterrupt):
            learn(patch, finished, tmp_path)
    for name in NAMES:
        (tmp_path / f"{name}.ckpt").unlink(missing_ok=True)
    steps = tmp_path / "checkpoints" / "network"
    newest, before = steps / "step_000004.ckpt", steps / "step_000003.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    content = bytearray(before.read_bytes())
    content[len(content) // 2] ^= 255
    before.write_bytes(content)
    learn(monkeypatch, finished, tmp_path)
    said = capsys.readouterr().out
    for name in (newest.name, before.name):
        assert f"{name} is broken: set aside as {name}.broken" in said
    assert read_products(tmp_path) == whole
