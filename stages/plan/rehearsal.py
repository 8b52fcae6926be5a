"""A stage tried on a few images, in a folder of its own: how long, how much memory, how large."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from callbacks.pace import EnoughError, Pace
from callbacks.training_signals import measure_peak
from fmawsss.sam.generator import SuperpixelGenerator
from lightning_modules.superpixels import SuperpixelModule
from stages.apply import apply
from stages.learn import learn
from stages.plan.cutting import RECORD, Cut, load_photo, time_parts
from stages.plan.left import Left
from stages.stage import Stage
from stages.step_memory import GB

PEAK = Path("/proc/self/clear_refs")  # of Linux: 5 forgets the largest memory so far
BESIDE = ("checkpoints", "pictures", "features")  # what no image of a product takes


@dataclass(frozen=True)
class Cost:
    """What was measured of a training or a prediction.

    seconds: of a step, or of an image; None where nothing was timed.
    timed: how many of them.
    how: what was timed where it was not a number of whole steps or images.
    memory: bytes of the process, on a GPU those of the GPU, at the peak.
    size: bytes of a checkpoint, or of what is written for an image.
    encoding: seconds in which a view is encoded, for a training on what an encoder made of them.
    """

    seconds: float | None
    timed: int
    memory: int
    size: float
    encoding: float | None = None
    how: str | None = None


def rehearse(stage: Stage, left: Left, cuts: bool) -> tuple[Cost | None, Cost | None]:
    """Measure the training and the prediction of a stage, as far as they are left.

    stage: works on few images, below a folder of its own.
    cuts: whether the prediction may leave out images, since nothing reads what it makes.
    """
    learned = applied = None
    with silence():
        if left.learns:
            learned = rehearse_training(stage)
        if left.applies:
            applied = rehearse_prediction(stage, cuts)
    return learned, applied


def rehearse_training(stage: Stage) -> Cost:
    """Measure some steps, and what is made before them."""
    pace = Pace(False, stage.run.work / "checkpoints" / "size.ckpt")
    memory = measure_memory(stage.run.device, partial(learn, watch(stage, pace), []))
    steps = len(pace.steps) - 1
    return Cost(pace.seconds_a_step, steps, memory, pace.bytes, pace.seconds_an_image)


def rehearse_prediction(stage: Stage, cuts: bool) -> Cost:
    """Measure some images."""
    pace = Pace(cuts, stage.run.work / "checkpoints" / "size.ckpt")
    before = measure_files(stage.run.work)
    memory = measure_memory(stage.run.device, partial(apply, watch(stage, pace)))
    images = pace.images[-1][0] if pace.images else 0
    size = (measure_files(stage.run.work) - before) / max(images, 1)
    return Cost(pace.seconds_an_image, images, memory, size)


def rehearse_slow_cut(stage: Stage) -> Cost | None:
    """Measure parts of what SAM does with an image on a CPU; None where it is fast, or another."""
    module = stage.module
    if stage.run.device.type != "cpu" or not isinstance(module, SuperpixelModule):
        return None
    cutter, found = module.generator, list[Cut | None]()
    if not isinstance(cutter, SuperpixelGenerator):
        return None
    photo = load_photo(stage)
    with silence():
        memory = measure_memory(stage.run.device, lambda: found.append(time_parts(cutter, photo)))
    cut = found[0]
    return None if cut is None else Cost(cut.seconds, 1, memory, RECORD, how=cut.how)


def watch(stage: Stage, pace: Pace) -> Stage:
    """Have the trainers of a stage timed."""
    build = stage.run.trainer
    trainer: Any = partial(build_timed, pace, build.func, **build.keywords)
    return replace(stage, run=replace(stage.run, trainer=trainer))


def build_timed(
    pace: Pace,
    build: Callable[..., L.Trainer],
    callbacks: Sequence[L.Callback],
    **settings: Any,
) -> L.Trainer:
    """Build a trainer that is timed, what is written included."""
    return build(callbacks=[*callbacks, pace], **settings)


def measure_memory(device: torch.device, work: Callable[[], object]) -> int:
    """Do something, perhaps not to its end, and return the most bytes that were held meanwhile."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # elsewhere it is the peak of all so far
        PEAK.write_text("5")
    with suppress(EnoughError):
        work()
    return round(measure_peak(device) * GB)


def measure_files(folder: Path) -> int:
    """Add up the files of a folder, checkpoints and pictures left out."""
    kept = (place for place in folder.glob("*") if place.name not in BESIDE)
    files = (file for place in kept for file in (place, *place.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def silence() -> Iterator[None]:
    """Say nothing of what a rehearsal does."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
