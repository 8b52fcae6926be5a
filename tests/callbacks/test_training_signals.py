"""Signals stand in every line of the log that Lightning writes, and make none of their own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from callbacks.training_signals import TrainingSignals
from stages.hush import hush_warnings

SIGNALS = {"train/lr", "train/gradient_norm", "train/images_per_second", "train/memory_gb"}


@pytest.fixture
def hushed():
    with warnings.catch_warnings():
        hush_warnings()
        yield


class Line(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class StopAt(L.Callback):
    """Stop between two lines of the log, as a timeout does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step + 1 == self.step


class Kept(CSVLogger):
    """Keep the lines as they come; steps are counted from 0."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.lines.append((step, metrics))


def train(folder: Path, *callbacks: L.Callback, resume: str | None = None, **settings: Any) -> Kept:
    logger = Kept(folder)
    trainer = L.Trainer(
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=3,
        callbacks=[TrainingSignals(), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )
    views = DataLoader(torch.ones(10, 2), batch_size=2)
    trainer.fit(Line(), views, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return logger


# five batches an epoch: with two of them a step, the last one of an epoch is a step, too
@pytest.mark.usefixtures("hushed")
@pytest.mark.parametrize("batches", [1, 2])
def test_signals_are_in_every_line(tmp_path, batches):
    lines = train(tmp_path, max_steps=9, accumulate_grad_batches=batches).lines
    assert [step for step, _ in lines] == [2, 5, 8]
    for _, values in lines:
        assert set(values) >= SIGNALS
        assert values["train/lr"] == 0.5
        assert values["train/gradient_norm"] >= 0


@pytest.mark.usefixtures("hushed")
def test_a_stopped_training_has_its_last_line_and_goes_on(tmp_path):
    lines = train(tmp_path, StopAt(5), max_steps=9).lines
    assert [(step, set(values) >= SIGNALS) for step, values in lines] == [(2, True), (4, True)]
    lines = train(tmp_path, max_steps=9, resume=tmp_path / "last.ckpt").lines
    assert [(step, set(values) >= SIGNALS) for step, values in lines] == [(5, True), (8, True)]
