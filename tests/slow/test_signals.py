"""Signals at many moments of every stage: exit code, time, last words, and an equal end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from front_door import ROOT
from strikes import Strike, compose, fork, read_products, run_forked, wait

import infer
import train
from callbacks.score_journal import ScoreJournal
from callbacks.seed_writer import SeedWriter
from callbacks.step_keeper import StepKeeper
from callbacks.validation_record import PowerRecord, ValidationRecord
from datamodules.shapes import ShapesDataModule
from lightning_modules.features import FeatureModule
from lightning_modules.network import NetworkModule
from lightning_modules.prompts import PromptModule
from lightning_modules.superpixels import SuperpixelModule

pytestmark = pytest.mark.slow

DATA = ["dataset.train_images=6", "dataset.val_images=3", "logger=none", "report=none"]
SMALL = [*DATA, "loading.workers=0"]
CLS = [
    "task=cls", "data.superpixels=null", "writers.seeds.kind=caa",
    "loop.max_steps=7", "save_every=4", "data.batch_size=2", "data.predict_batch_size=1",
]  # fmt: skip
NETWORK = [
    "task=network", "network.build.width=16", "data.batch_size=4",
    "loop.max_steps=7", "save_every=4", "seeds=${paths.data}/shapes-0/SegmentationClass",
    "data.predict_batch_size=1",
]  # fmt: skip
SUPERPIXELS = ["task=superpixels", "masks.points_per_side=4", "data.predict_batch_size=1"]
INT = signal.SIGINT

RUNS = {
    "cls": (train.main, [*CLS, *SMALL]),
    "cls in batches": (train.main, [*CLS, *SMALL, "data.predict_batch_size=4"]),
    "cls with workers": (train.main, [*CLS, *DATA, "loading.workers=2"]),
    "cls validated": (train.main, [*CLS, *SMALL, "val_every=2", "data.val_split=val"]),
    "cls cached": (train.main, [*CLS, *SMALL, "cache=features", "cache.views=2"]),
    "network": (train.main, [*NETWORK, *SMALL]),
    "network in parts": (train.main, [*NETWORK, *SMALL, "data.micro_batches=2", "val_every=3"]),
    "network averaged": (train.main, [*NETWORK, *SMALL, "averaging=ema", "val_every=3"]),
    "superpixels": (infer.main, [*SUPERPIXELS, *SMALL]),
}
CASES = [
    ("cls", Strike(PromptModule, "training_step", 1)),
    ("cls", Strike(PromptModule, "training_step", 4, INT)),
    ("cls", Strike(StepKeeper, "on_before_optimizer_step", 3)),
    ("cls", Strike(StepKeeper, "on_train_batch_end", 7)),
    ("cls", Strike(PromptModule, "predict_step", 2)),
    ("cls", Strike(PromptModule, "on_save_checkpoint", 1)),
    ("cls in batches", Strike(SeedWriter, "write", 3)),
    ("cls in batches", Strike(ScoreJournal, "_describe", 6)),
    ("cls with workers", Strike(PromptModule, "training_step", 3, INT)),
    ("cls with workers", Strike(PromptModule, "predict_step", 2)),
    ("cls validated", Strike(PromptModule, "validation_step", 2)),
    ("cls validated", Strike(PromptModule, "validation_step", 5, INT)),
    ("cls validated", Strike(PowerRecord, "on_validation_end", 2)),
    ("cls validated", Strike(PromptModule, "training_step", 5)),
    ("cls cached", Strike(FeatureModule, "predict_step", 3)),
    ("cls cached", Strike(PromptModule, "training_step", 5)),
    ("network", Strike(NetworkModule, "training_step", 3)),
    ("network", Strike(NetworkModule, "training_step", 6, INT)),
    ("network", Strike(NetworkModule, "predict_step", 2)),
    ("network in parts", Strike(NetworkModule, "training_step", 6)),
    ("network in parts", Strike(NetworkModule, "training_step", 7)),
    ("network in parts", Strike(NetworkModule, "validation_step", 2)),
    ("network in parts", Strike(ValidationRecord, "on_validation_end", 2)),
    ("network averaged", Strike(NetworkModule, "training_step", 6)),
    ("network averaged", Strike(NetworkModule, "validation_step", 1)),
    ("network averaged", Strike(NetworkModule, "validation_step", 5)),
    ("superpixels", Strike(SuperpixelModule, "predict_step", 4)),
    ("superpixels", Strike(SuperpixelModule, "predict_step", 1, INT)),
    ("superpixels", Strike(ShapesDataModule, "read_split", 1)),
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What each run makes when nothing strikes it, made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("undisturbed"), {}

    def find(name: str) -> dict[str, bytes]:
        if name not in made:
            main, words = RUNS[name]
            compose(main, words)
            places = [f"paths.data={folder}/data", f"paths.outputs={folder}/{name}"]
            ended = run_forked(main, [*words, *places], folder / f"{name}.log")
            assert ended.code == 0, ended.said
            made[name] = read_products(folder / name)
        return made[name]

    return find


@pytest.mark.parametrize("kept", ["quick", "slow"])
@pytest.mark.parametrize(
    ("name", "strike"), CASES, ids=[f"{n}-{s.method}-{s.call}" for n, s in CASES]
)
def test_a_signal_ends_a_run_that_goes_on_as_if_nothing_had_been(
    name, strike, kept, undisturbed, tmp_path, monkeypatch
):
    """Once with steps that are waited for, once with steps that are cut off."""
    expected = undisturbed(name)
    monkeypatch.setattr("callbacks.step_keeper.QUICK", 0.5 if kept == "quick" else -1)
    main, words = RUNS[name]
    words = [*words, f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]

    ended = run_forked(main, words, tmp_path / "struck.log", strike)
    assert ended.code == 128 + strike.signum, ended.said
    last = ended.said.splitlines()[-1]
    assert last.startswith(f"stopped by {strike.signum.name}"), ended.said
    assert last.endswith("the same command goes on")
    assert "Traceback" not in ended.said

    again = run_forked(main, words, tmp_path / "again.log")
    assert again.code == 0, again.said
    found = read_products(tmp_path / "outputs")
    assert found.keys() == expected.keys()
    assert [key for key in expected if found[key] != expected[key]] == []


def list_children(pid: int) -> list[int]:
    """List the living processes that a process started, and those that they started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found += [int(path.parent.name), *list_children(int(path.parent.name))]
    return found


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(condition: Callable[[], object], limit: float = 120) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_loader_processes_end_with_the_program(signum, persistent, tmp_path):
    words = [*CLS, *DATA, "loading.workers=2", "loop.max_steps=500", "save_every=1"]
    words += [f"loading.persistent_workers={persistent}"]
    words += [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    pid = fork(train.main, words, tmp_path / "log")
    wait_for(lambda: list(tmp_path.rglob("step_000003.ckpt")))
    children = list_children(pid)
    assert len(children) >= 3  # the server of processes and two workers
    os.kill(pid, signum)
    assert wait(pid, tmp_path / "log").code in (-signal.SIGKILL, 143)
    wait_for(lambda: not any(map(is_alive, children)))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_all_processes_of_a_training_end(signum, tmp_path):
    words = [*CLS, *DATA, "loading.workers=1", "loop.max_steps=500", "save_every=1", "trainer=ddp"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2"]
    words += [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
        wait_for(lambda: list(tmp_path.rglob("step_000002.ckpt")), 300)
        children = list_children(program.pid)
        assert len(children) >= 5  # another process, and servers and workers of both
        program.send_signal(signum)
        expected = -signum if signum == signal.SIGKILL else 128 + signum
        assert program.wait(60) == expected, (tmp_path / "log").read_text()
    wait_for(lambda: not any(map(is_alive, children)))
    said = (tmp_path / "log").read_text().splitlines()
    assert signum == signal.SIGKILL or any(line.startswith("stopped by") for line in said)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_side_by_side_end_with_their_sweep(signum, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [
        "-m", *CLS, *SMALL, "seed=0,1", "criterion.masks=caa", "criterion.split=train",
        "loop.max_steps=500", "save_every=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        f"hydra.sweep.dir={tmp_path}/sweep",
        f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs",
    ]  # fmt: skip
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
        wait_for(lambda: len(list(tmp_path.rglob("step_000002.ckpt"))) == 2, 300)
        children = list_children(program.pid)
        assert len(children) >= 2
        program.send_signal(signum)
        expected = -signum if signum == signal.SIGKILL else 128 + signum
        assert program.wait(60) == expected, (tmp_path / "log").read_text()
    wait_for(lambda: not any(map(is_alive, children)))


def test_a_sweep_ends_and_goes_on(tmp_path):
    words = [
        "-m", *CLS, *SMALL, "seed=0,1", "criterion.masks=caa", "criterion.split=train",
        "loop.max_steps=3",
        f"hydra.sweep.dir={tmp_path}/sweep",
        f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs",
    ]  # fmt: skip
    strike = Strike(PromptModule, "training_step", 5)
    ended = run_forked(train.main, words, tmp_path / "log", strike)
    assert ended.code == 143, ended.said
    last = ended.said.splitlines()[-1]
    assert last.startswith("stopped by SIGTERM in stage cls, learn after step"), ended.said
    jobs = [json.loads((tmp_path / f"sweep/{n}/job.json").read_text()) for n in (0, 1)]
    assert [job["status"] for job in jobs] == ["finished", "started"]

    ended = run_forked(train.main, words, tmp_path / "log")
    assert ended.code == 0, ended.said
    jobs = [json.loads((tmp_path / f"sweep/{n}/job.json").read_text()) for n in (0, 1)]
    assert [job["status"] for job in jobs] == ["finished", "finished"]
    assert "2 jobs, 1 finished before" in ended.said
