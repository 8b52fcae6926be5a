"""Learn a stage: train, or go on training, until its checkpoint is complete."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from filelock import FileLock
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.feature_writer import FeatureWriter
from callbacks.finite_losses import FiniteLosses
from callbacks.step_keeper import StepKeeper
from callbacks.training_signals import TrainingSignals
from callbacks.validation_record import (
    choose_reported,
    drop_validations,
    keep_learned,
    place_record,
    read_validations,
)
from datamodules.choosing import name_splits
from datamodules.encoded import EncodedData
from datamodules.sample import collate_samples
from fmawsss.files.contents import note_files
from fmawsss.files.features import FeatureStore
from fmawsss.files.listing import current
from fmawsss.files.products import holds_files
from lightning_modules.features import FeatureModule
from stages.scores import write_scores
from stages.signals import GUARD
from stages.stage import Stage, Training, describe_inputs, forget_failure, start_product
from stages.training_files import find_last_step, read_step

logger = logging.getLogger(__name__)


def learn(stage: Stage, loggers: Sequence[Logger]) -> None:
    """Train a stage until its checkpoint is complete, and report its validations."""
    training = stage.training
    assert training is not None

    # Complete and current, or begun: the record beside the checkpoint says
    product = stage.describe_checkpoint()
    split, inputs = describe_inputs(training.data, training.split)
    beside = [stage.steps, place_record(product.path), stage.best]
    start_product(product, split, inputs, stage.run.overwrite, beside)
    if product.is_complete(split) and product.path.is_file():
        logger.info("%s: %s is complete, skipped", stage.name, product.path)
        return report_validations(stage)

    with forget_failure(product, split, lambda: holds_files(stage.steps)):
        trainer = train(stage, training, loggers, inputs)

    # The product, and the best checkpoint beside it
    trainer.save_checkpoint(product.path, weights_only=True)
    current().forget()
    if trainer.is_global_zero:
        keep_best(stage, training)
        for path in stage.steps.glob("stopped_*.ckpt"):
            path.unlink()
        note_files(product.path, ())
        product.finish(split)
    return report_validations(stage)


def train(stage: Stage, training: Training, loggers: Sequence[Logger], inputs: str) -> L.Trainer:
    """Train from the newest checkpoint of an unfinished training, or from the start."""
    # What to train on, and who watches
    data = choose_data(stage, inputs)
    callbacks = [
        build_saver(stage.steps, training.save_every),
        TrainingSignals(),
        FiniteLosses(),
        *training.averaging,
    ]
    settings = {**training.loop, **schedule_validations(training), "logger": list(loggers) or False}
    callbacks += training.watchers.values() if training.val_every is not None else ()
    callbacks.append(StepKeeper(stage.steps, training.val_every, GUARD))
    trainer = stage.run.build_trainer(stage.name, "learn", callbacks, settings)

    # Go on
    last = find_last_step(stage.steps)
    if trainer.is_global_zero:
        drop_validations(stage.checkpoint, 0 if last is None else read_step(last))
    trainer.fit(stage.module, data, ckpt_path=last, weights_only=True)  # nothing in it is run
    for callback in training.averaging:  # a resume that finds the training finished calls no end
        callback.on_train_end(trainer, stage.module)
    return trainer


def choose_data(stage: Stage, inputs: str) -> L.LightningDataModule:
    """Return what to train on: images, or what the frozen encoder made of their fixed views."""
    assert stage.training is not None
    if stage.run.cache is None or stage.training.view.get("views") is None:
        return stage.training.data
    return EncodedData(stage.training.data, encode_views(stage, inputs))


def build_saver(folder: Path, every: int) -> ModelCheckpoint:
    """Build what keeps a checkpoint every so many steps, all of them."""
    return ModelCheckpoint(
        folder,
        "step_{step:06d}",
        auto_insert_metric_name=False,
        every_n_train_steps=every,
        save_top_k=-1,
    )


def schedule_validations(training: Training) -> dict[str, Any]:
    """Count validations in optimiser steps, as everything else; None for none."""
    if training.val_every is None:
        return {"limit_val_batches": 0}
    batches = training.val_every * training.loop["accumulate_grad_batches"]
    return {"val_check_interval": batches, "check_val_every_n_epoch": None}


def keep_best(stage: Stage, training: Training) -> None:
    """Keep what the best validation had learned, where one was watched for."""
    watcher = training.watchers.get("best")
    if not isinstance(watcher, ModelCheckpoint) or training.val_every is None:
        return
    if watcher.best_model_path:
        keep_learned(watcher.best_model_path, stage.best)


def report_validations(stage: Stage) -> None:
    """Enter the last and the best validation of the training in the table, each by its name."""
    training = stage.training
    assert training is not None
    reported = choose_reported(read_validations(stage.checkpoint))
    if not reported or rank_zero_only.rank != 0 or training.data.validation is None:
        return
    split = f"{','.join(name_splits(training.data.validation.split))} during training"
    scores = {name: found[0] for name, found in reported.items()}
    details = {name: found[1] for name, found in reported.items()}
    write_scores(stage.run.work / "scores.json", stage.name, split, scores, details)


def encode_views(stage: Stage, inputs: str) -> FeatureStore:
    """Return what the frozen encoder makes of the training views, encoding those that are new."""
    assert stage.training is not None
    assert stage.run.cache is not None
    data, encoder = stage.training.data, FeatureModule(stage.module)
    data.setup("fit")
    views = data.describe_views()

    # Open the store, one process at a time; the first view tells how large it will be
    cache, name = stage.run.cache, f"{stage.name}_{stage.digest_views(inputs)}"
    first = encoder.predict_step(collate_samples([views.read_view(0)]))
    cache.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache.folder / f"{name}.lock") if rank_zero_only.rank == 0 else nullcontext()
    with lock:
        store = cache.open(name=name, rows=len(views.records) * views.views, sample=first)

        # Encode what no run encoded before
        remaining = store.list_remaining()
        if remaining:
            writer, silent = FeatureWriter(store), {"logger": False}
            trainer = stage.run.build_trainer(stage.name, "encode views", [writer], silent)
            loader = data.view_loader(remaining, trainer.global_rank, trainer.world_size)
            trainer.predict(encoder, loader, return_predictions=False)
            trainer.strategy.barrier()
    done = store.rows - len(remaining)
    logger.info("%s: %d views encoded now, %d before", stage.name, len(remaining), done)
    return store
