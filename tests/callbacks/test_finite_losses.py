from __future__ import annotations

import warnings

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks.finite_losses import FiniteLosses
from stages.hush import hush_warnings


@pytest.fixture(autouse=True)
def hushed():
    with warnings.catch_warnings():
        hush_warnings()
        yield


class Line(L.LightningModule):
    """Learn a weight; at one step its loss, or the gradient alone, is no number."""

    def __init__(self, loss_at: int | None = None, gradient_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.loss_at = loss_at
        self.gradient_at = gradient_at

    def training_step(self, batch, index):
        if index == self.gradient_at:
            self.weight.register_hook(lambda gradient: gradient * torch.nan)
        return self.weight.sum() * (torch.nan if index == self.loss_at else 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, folder, steps=4):
    saver = L.pytorch.callbacks.ModelCheckpoint(
        folder, "{step}", every_n_train_steps=1, save_top_k=-1
    )
    trainer = L.Trainer(
        max_steps=steps,
        callbacks=[saver, FiniteLosses()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, DataLoader(torch.zeros(9, 1)))


def test_numbers_are_learned_from(tmp_path):
    fit(Line(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("module", "message"),
    [(Line(loss_at=2), "the loss of step 3"), (Line(gradient_at=2), "after step 3")],
)
def test_a_step_that_is_no_number_ends_it_unsaved(tmp_path, module, message):
    with pytest.raises(ValueError, match=rf"{message}.*no number"):
        fit(module, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
