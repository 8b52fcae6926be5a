"""What is checked before any stage of a run works: whatever would end it after hours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from datamodules.base import SegmentationDataModule
from fmawsss.files.products import require_unchanged
from fmawsss.files.writing import find_existing
from lightning_modules.learned import read_fitting
from stages.checkpoints import find_checkpoint
from stages.image_memory import tell_image_memory
from stages.places import make_folder
from stages.publish import check_export
from stages.scores import read_table
from stages.stage import Stage, Training
from stages.step_memory import tell_memory

BESIDE = ("checkpoints", "exports", "overlays", "pictures")  # folders

logger = logging.getLogger(__name__)


def check_run(stages: Sequence[Stage]) -> None:
    """Check the stages of a run in their order; raises for the first fault."""
    made: set[Path] = set()
    unchanged: set[Path] = set()
    check_places(stages[-1].run.work)
    logger.info("checking images, masks and what stages read")
    for stage in stages:
        check_stage(stage, made)
        for read in set(stage.reads.values()) - made - unchanged:  # several stages read the same
            require_unchanged(read)
            unchanged.add(read)
        made.add(stage.output.path)


def check_places(work: Path) -> None:
    """Check what stands where the stages write beside their products, some at their ends."""
    table = work / "scores.json"
    if table.exists():
        read_table(table)
    for place in (work / name for name in BESIDE):
        if place.exists() and not place.is_dir():
            raise ValueError(
                f"{place} is a file where a folder belongs: remove it, or choose another folder "
                "with paths.work=DIR"
            )


def check_stage(stage: Stage, made: set[Path]) -> None:
    """Check what a stage reads, unless this run makes it (`made`), and where it writes."""
    check_export(stage)
    if stage.run.ckpt is not None and not stage.learns:
        raise ValueError(
            f"ckpt={stage.run.ckpt} has no part in task={stage.name} here, leave it out: nothing "
            "is learned for it"
        )
    path = stage.output.path
    make_folder(path.parent if path.suffix else path, "emits")  # some are one file: labels.csv
    open_data(stage.output.data, "predict", set(stage.output.inputs.values()) & made)
    tell_image_memory(stage)
    if stage.training is not None:
        check_training(stage, stage.training, made)


def check_training(stage: Stage, training: Training, made: set[Path]) -> None:
    """Check what a training reads, and what it would end without."""
    if training.val_every is not None and training.data.validation is None:
        raise ValueError(
            f"val_every={training.val_every}, but stage {stage.name} has no images to validate on: "
            "set data.val_split to a split that has masks, or val_every=null"
        )
    make_folder(stage.checkpoint.parent, "learns")
    place = find_existing(stage.steps)
    if not place.is_dir():
        raise ValueError(
            f"{place} is a file where the folder for checkpoints of {stage.name} belongs: remove "
            "it, or choose another folder with paths.work=DIR"
        )
    if stage.run.cache is not None:
        make_folder(stage.run.cache.folder, "cache.store.folder")
    open_data(training.data, "fit", set(training.inputs.values()) & made)
    check_chosen(stage, training)
    if stage.run.overwrite or not stage.checkpoint.is_file():
        tell_memory(stage, training)
    report_warmup(stage, training)


def report_warmup(stage: Stage, training: Training) -> None:
    """Warn of a training that ends within its warm-up."""
    scheduler = stage.config.get("learning", {}).get("scheduler") or {}
    warmup, steps = scheduler.get("warmup", 0), training.loop["max_steps"]
    if warmup >= steps:
        logger.warning(
            "%s: learning.scheduler.warmup=%d covers all %d steps (loop.max_steps): the learning "
            "rate stays at warmup_lr; train longer, or shorten it",
            stage.name,
            warmup,
            steps,
        )


def check_chosen(stage: Stage, training: Training) -> None:
    """Raise unless the checkpoint to apply after a training will be there, or fits already."""
    chosen = str(stage.run.ckpt or stage.output.apply_step or "")
    last = training.loop["max_steps"]
    step = int(chosen) if chosen.isdigit() else 0
    if not chosen or (0 < step <= last and step % training.save_every == 0):
        return
    try:
        read_fitting(find_checkpoint(stage), stage.module)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; this training keeps every {training.save_every}th step (save_every) "
            f"up to {last}"
        ) from error


def open_data(data: SegmentationDataModule, purpose: str, later: set[Path]) -> None:
    """Check the images of a purpose, and what earlier stages made unless that comes later."""
    if later:
        data.read_images(purpose)
    else:
        data.setup(purpose)
