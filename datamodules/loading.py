"""How batches are loaded: by this process or by workers, for which process of the training."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.context import BaseContext

import cv2
import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from fmawsss.records import Batch


@dataclass(frozen=True)
class Loading:
    """How many processes load batches, and how they start; batches do not depend on it.

    workers: loader processes, 0 for none.
    persistent_workers: keep them from one pass over the images to the next.
    start_method: fork, forkserver or spawn; None takes the safest of the platform.
    """

    workers: int = 0
    persistent_workers: bool = False
    start_method: str | None = None


@dataclass(frozen=True)
class Place:
    """Where batches are needed: which process of how many, at which step, whether for a GPU."""

    rank: int = 0
    world_size: int = 1
    step: int = 0  # of the optimiser
    pin: bool = False  # memory is page-locked, for copies to a GPU


def find_place(trainer: L.Trainer | None) -> Place:
    """Ask a trainer where it stands; without one, everything is read by this process.

    Raises ValueError when Lightning would deal images to the processes that are dealt already.
    """
    if trainer is None:
        return Place()
    # Lightning keeps this setting of the trainer in a private place only.
    deals = trainer._accelerator_connector.use_distributed_sampler
    if trainer.world_size > 1 and deals:
        raise ValueError(
            "images are already dealt to the processes; set trainer.use_distributed_sampler=false"
        )
    pin = trainer.strategy.root_device.type == "cuda"
    return Place(trainer.global_rank, trainer.world_size, trainer.global_step, pin)


def make_loader(
    batches: Dataset[Batch], loading: Loading, pin: bool, order: Iterable[int] | None = None
) -> DataLoader[Batch]:
    """Load whole batches in an order of their numbers; None takes all of them in turn."""
    workers = loading.workers
    return DataLoader(
        batches,
        batch_size=None,  # each item is a batch already
        sampler=order,
        num_workers=workers,
        worker_init_fn=prepare_worker,
        pin_memory=pin,
        persistent_workers=loading.persistent_workers and workers > 0,
        multiprocessing_context=find_start_context(loading.start_method) if workers else None,
    )


def find_start_context(method: str | None) -> BaseContext:
    """Return how loader processes start: as asked, or from a server that has loaded what they need.

    Forking the training process itself would copy locks that its threads hold.
    """
    methods = multiprocessing.get_all_start_methods()
    safest = "forkserver" if "forkserver" in methods else "spawn"
    context = multiprocessing.get_context(method or safest)
    if multiprocessing.get_start_method(allow_none=True) not in (None, *methods):
        # the method of joblib's own processes is unknown to our workers
        multiprocessing.set_start_method(context.get_start_method(), force=True)
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["datamodules.base"])
    return context


def prepare_worker(worker: int) -> None:
    """Keep each worker of a loader to one thread; the program answers Ctrl-C and ends it."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow_program, daemon=True).start()


def follow_program() -> None:
    """End this worker when the program that started it is gone, however it ended."""
    program = multiprocessing.parent_process()
    assert program is not None
    program.join()
    os._exit(1)
