"""Nothing piles up over a run: after its first steps, a run holds no more tensors than before."""

from __future__ import annotations

import gc

import lightning as L
import pytest
import torch
from front_door import run

import train
from callbacks.behind import Behind
from stages.stage import Run


class TensorCounter(L.Callback):
    """Note the bytes of all living tensors after every batch."""

    def __init__(self) -> None:
        self.held: dict[str, list[int]] = {"train": [], "predict": []}

    def on_train_batch_end(self, *arguments: object) -> None:
        self.held["train"].append(sum_tensors())

    def on_predict_batch_end(self, trainer: L.Trainer, *arguments: object) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, Behind):
                callback.finish()  # a batch that is being written may live until then
        self.held["predict"].append(sum_tensors())


def sum_tensors() -> int:
    gc.collect()
    tensors = (
        thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)
    )
    tensors = (
        tensor for tensor in tensors if tensor.device.type == "cpu"
    )  # other tests leave some without memory
    return sum(
        {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in tensors
        }.values()
    )


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_memory_stays_flat(task: str, tmp_path_factory, monkeypatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "memory"  # seg learns from what cls made
    counter, build = TensorCounter(), Run.build_trainer

    def count(run, stage, action, callbacks, settings):
        return build(run, stage, action, [*callbacks, counter], settings)

    monkeypatch.setattr(Run, "build_trainer", count)
    few = [
        "dataset.train_images=12",
        "dataset.val_images=1",
        "loop.max_steps=12",
        "save_every=12",
        "logger=none",
    ]
    few += [
        "memory=none",
        "data.superpixels=null",
        "writers.seeds.kind=cam",
        "scored=cam",
        "data.batch_size=4",
    ]
    few += ["data.predict_batch_size=1", f"paths.data={folder}/data", f"paths.outputs={folder}"]
    run(train.main, monkeypatch, f"task={task}", *few)
    for held in counter.held.values():
        assert len(held) == 12
        assert max(held[4:]) <= 1.01 * held[3], held
