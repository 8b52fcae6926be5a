"""SIGTERM and Ctrl-C: exit code, one line, the last complete step; more in `tests/slow`."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from strikes import Strike, fork, read_products, run_forked, wait

import infer
import train
from callbacks.step_keeper import StepKeeper
from lightning_modules.prompts import PromptModule
from lightning_modules.superpixels import SuperpixelModule
from stages import signals

DATA = ["dataset.train_images=2", "dataset.val_images=1", "loading.workers=0", "logger=none"]
CLS = [
    "task=cls", "data.superpixels=null", "writers.seeds.kind=caa", "data.batch_size=2",
    "loop.max_steps=4", "save_every=3", "report=none",
]  # fmt: skip


def place(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]


@pytest.mark.parametrize("quick", [float("inf"), -1])
def test_a_training_keeps_its_last_complete_step(quick, tmp_path, monkeypatch):
    """Once where the step is waited for, once where it is given up."""
    monkeypatch.setattr("callbacks.step_keeper.QUICK", quick)
    words = [*CLS, *DATA, *place(tmp_path)]
    strike = Strike(PromptModule, "training_step", 2)
    ended = run_forked(train.main, words, tmp_path / "log", strike)
    done = 2 if quick > 0 else 1
    line = (
        f"stopped by SIGTERM in stage cls, learn after step {done} of 4; the same command goes on"
    )
    assert ended.code == 143, ended.said
    assert ended.said.splitlines()[-1] == line

    work = tmp_path / "outputs/shapes"
    (kept,) = (work / "checkpoints/cls").glob("*.ckpt")
    assert kept.name == f"stopped_{done:06d}.ckpt"
    (record,) = work.glob("runs/*/run.json")
    assert json.loads(record.read_text())["status"] == line

    # The same end as without the signal, and nothing is left
    assert run_forked(train.main, words, tmp_path / "log").code == 0
    quiet = tmp_path / "quiet"
    ended = run_forked(train.main, [*words[:-1], f"paths.outputs={quiet}"], tmp_path / "log")
    assert ended.code == 0, ended.said
    assert read_products(work) == read_products(quiet / "shapes")


def test_control_c_gives_up_the_image_in_progress(tmp_path):
    words = ["task=superpixels", "masks.points_per_side=4", *DATA, *place(tmp_path)]
    strike = Strike(SuperpixelModule, "predict_step", 2, signal.SIGINT)
    ended = run_forked(infer.main, words, tmp_path / "log", strike)
    assert ended.code == 130, ended.said
    said = "stopped by SIGINT in stage superpixels, apply after 1 images; the same command goes on"
    assert ended.said.splitlines()[-1] == said
    assert len(list(tmp_path.glob("outputs/shapes/superpixels/*.npz"))) == 1


def test_an_optimiser_step_is_not_cut_in_two(tmp_path):
    words = [*CLS, *DATA, *place(tmp_path)]
    strike = Strike(StepKeeper, "on_train_batch_end", 2)
    ended = run_forked(train.main, words, tmp_path / "log", strike)
    assert "after step 2 of 4" in ended.said


def test_what_does_not_end_is_ended(tmp_path, monkeypatch):
    """The first signal ends what hangs, in time; a second one at once."""
    monkeypatch.setattr(signals, "PATIENCE", 0.2)
    monkeypatch.setattr(StepKeeper, "on_exception", lambda *_: time.sleep(60))
    words = [*CLS, *DATA, *place(tmp_path)]
    strike = Strike(PromptModule, "training_step", 1)
    ended = run_forked(train.main, words, tmp_path / "log", strike)
    assert ended.code == 143, ended.said

    def hang(*_: object) -> None:
        (tmp_path / "hangs").touch()
        time.sleep(60)

    monkeypatch.setattr(signals, "PATIENCE", 100)
    monkeypatch.setattr(signals, "TWICE", 0)
    monkeypatch.setattr(StepKeeper, "on_exception", hang)
    pid = fork(train.main, words, tmp_path / "second", strike)
    while not (tmp_path / "hangs").exists():
        time.sleep(0.05)
    os.kill(pid, signal.SIGINT)
    ended = wait(pid, tmp_path / "second", limit=50)
    assert ended.code == 143, ended.said


@pytest.mark.parametrize(("patience", "signals_sent"), [(0.2, 1), (100, 2)])
def test_what_hangs_inside_a_library_is_ended(patience, signals_sent, tmp_path, monkeypatch):
    """There no handler runs."""

    def hang(*_: object) -> None:
        (tmp_path / "hangs").touch()
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(mutex)

    monkeypatch.setattr(signals, "PATIENCE", patience)
    monkeypatch.setattr(signals, "TWICE", 0)
    monkeypatch.setattr(PromptModule, "training_step", hang)
    pid = fork(train.main, [*CLS, *DATA, *place(tmp_path)], tmp_path / "log")
    while not (tmp_path / "hangs").exists():
        time.sleep(0.05)
    for _ in range(signals_sent):
        time.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
    ended = wait(pid, tmp_path / "log", limit=50)
    assert ended.code == 143, ended.said
    assert ended.said.splitlines()[-1] == "stopped by SIGTERM; the same command goes on"


def test_the_other_processes_of_a_training_end_when_the_first_is_gone(tmp_path, monkeypatch):
    """It may be killed before they are ready to follow it."""

    def follow() -> None:
        with signals.answer_signals():
            time.sleep(60)

    gone = fork(print, [], tmp_path / "log")
    wait(gone, tmp_path / "log")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(signals.LEADER, str(gone))
    assert run_forked(follow, [], tmp_path / "log").code == 1


def test_a_process_that_was_forked_keeps_its_signals_to_itself(tmp_path, monkeypatch):
    """Such as a loader process that is ended."""
    monkeypatch.setattr(signals, "PATIENCE", 0)

    def begin() -> None:
        (tmp_path / "begun").touch()
        time.sleep(60)

    def program() -> None:
        with signals.answer_signals():
            child = fork(begin, [], tmp_path / "child")
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            os.kill(child, signal.SIGTERM)
            wait(child, tmp_path / "child")
            time.sleep(0.5)

    assert run_forked(program, [], tmp_path / "log").code == 0


def test_slurm_starts_a_job_again_that_it_warned(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (tmp_path / "scontrol").chmod(0o755)
    for key, value in {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "42", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0", "SLURM_JOB_NAME": "prompts",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    words = [*CLS, *DATA, *place(tmp_path)]
    strike = Strike(PromptModule, "training_step", 2, signal.SIGUSR1)
    ended = run_forked(train.main, words, tmp_path / "log", strike)
    assert ended.code == 128 + signal.SIGUSR1, ended.said
    assert asked.read_text() == "requeue 42\n"
    assert ended.said.splitlines()[-1].endswith("SLURM was asked to start the job again")
    assert not list(tmp_path.rglob("hpc_ckpt*"))

    # It goes on where it stopped, and is applied with what it learned
    ended = run_forked(train.main, words, tmp_path / "log")
    assert ended.code == 0, ended.said
    assert "going on from" in ended.said


def test_overwriting_is_not_to_be_repeated(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "overwrite=true"])
    assert str(signals.Stopped(signal.SIGTERM)) == (
        "stopped by SIGTERM; the same command without overwrite=true goes on"
    )


def test_handlers_of_others_stay(monkeypatch):
    """Such as submitit's, which answers SIGTERM itself."""
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGTERM, print)
        assert signals.list_signals() == [signal.SIGINT]
        with signals.answer_signals():
            assert signal.getsignal(signal.SIGTERM) is print
            assert signal.getsignal(signal.SIGINT) == signals.GUARD.answer
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is interrupt
