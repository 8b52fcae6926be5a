from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from callbacks import progress
from callbacks.progress import StageLines, StageProgress, follow_progress


@pytest.mark.parametrize(("terminal", "kind"), [(True, StageProgress), (False, StageLines)])
def test_bars_are_for_terminals(terminal, kind, monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", terminal)
    shown = follow_progress("seg", "apply", ["superpixels", "cls", "seg"])
    assert type(shown) is kind
    assert shown.title == "3/3 seg"
    assert follow_progress("seg", "apply", ["seg"]).title == "seg"


def test_a_bar_says_what_it_does():
    bar = StageProgress("1/2 cls", "encode views")
    assert bar.predict_description == "1/2 cls: encode views"
    assert bar._get_train_description(0) == "1/2 cls: learn"


def test_lines_tell_share_time_left_and_loss(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    metrics = {"train/loss": 0.25}
    trainer = SimpleNamespace(
        max_steps=10,
        accumulate_grad_batches=2,
        global_step=2,
        progress_bar_metrics=metrics,
        fit_loop=SimpleNamespace(),
    )
    lines = StageLines("2/4 cls", "apply")
    with caplog.at_level(logging.INFO):
        lines.on_train_start(trainer, None)
        for batch, seconds in enumerate((30, 5, 35, 20, 30), start=4):  # a resumed training
            now[0] += seconds
            trainer.fit_loop.total_batch_idx = batch
            lines.on_train_batch_end(trainer, None, None, None, batch)
    assert [record.message for record in caplog.records] == [
        "2/4 cls: learn 6 of 20 (30%), 0:01:10 left, train/loss 0.25",
        "2/4 cls: learn 9 of 20 (45%), 0:04:08 left, train/loss 0.25",
    ]
