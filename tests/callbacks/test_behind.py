"""Writers run behind the device: in order, and no failure is lost."""

from __future__ import annotations

import threading

import lightning as L
import pytest

from callbacks.behind import Behind


class Recorder(L.Callback):
    """Note what is written where; fail at one batch, and wait for leave to write."""

    def __init__(self, notes, fails_at=None, leave=None):
        self.notes, self.fails_at, self.leave = notes, fails_at, leave

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, loader=0):
        if self.leave is not None:
            assert self.leave.wait(10)
        if batch_idx == self.fails_at:
            raise OSError("no room")
        self.notes.append((id(self), batch_idx, threading.current_thread().name))

    def on_predict_end(self, trainer, pl_module):
        self.notes.append((id(self), "end", threading.current_thread().name))


def write(behind, *batches):
    for number in batches:
        behind.on_predict_batch_end(None, None, [], None, number)


def test_batches_are_written_in_order_in_another_thread():
    notes = []
    writers = [Recorder(notes), Recorder(notes)]
    behind = Behind(writers)
    write(behind, 0, 1, 2)
    behind.on_predict_end(None, None)
    one, other = map(id, writers)
    steps = [(writer, batch) for batch in (0, 1, 2, "end") for writer in (one, other)]
    assert [note[:2] for note in notes] == steps
    here = threading.current_thread().name
    assert [note[2] == here for note in notes] == [False] * 6 + [True] * 2


def test_a_batch_is_computed_while_the_one_before_is_written():
    leave, notes = threading.Event(), []
    behind = Behind([Recorder(notes, leave=leave)])
    write(behind, 0)  # returns while nothing is written
    assert not notes
    leave.set()
    write(behind, 1)
    assert [note[1] for note in notes[:1]] == [0]
    behind.on_predict_end(None, None)
    assert [note[1] for note in notes] == [0, 1, "end"]


def test_a_failure_ends_the_run_at_the_next_batch_or_at_the_end():
    notes = []
    behind = Behind([Recorder(notes, fails_at=1)])
    write(behind, 0, 1)
    with pytest.raises(OSError, match="no room"):
        write(behind, 2)
    behind = Behind([Recorder(notes, fails_at=3)])
    write(behind, 3)
    with pytest.raises(OSError, match="no room"):
        behind.on_predict_end(None, None)
    assert [note[1] for note in notes] == [0]


def test_a_run_that_ends_early_waits_for_what_is_being_written():
    leave, notes = threading.Event(), []
    behind = Behind([Recorder(notes, leave=leave)])
    write(behind, 0)
    threading.Timer(0.05, leave.set).start()
    behind.on_exception(None, None, SystemExit(143))
    assert [note[1] for note in notes] == [0]
