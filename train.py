"""Learn one stage, or all of them in turn: python train.py task=cls dataset=voc."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from filelock import FileLock
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from callbacks.feature_writer import FeatureWriter
from callbacks.training_signals import TrainingSignals
from callbacks.validation_record import (
    choose_reported,
    keep_learned,
    place_record,
    read_validations,
)
from datamodules.base import SegmentationDataModule
from datamodules.choosing import name_splits
from datamodules.sample import collate_samples
from fmawsss.files.features import FeatureStore
from fmawsss.files.fingerprints import digest_weights, fingerprint, strip_incidental
from fmawsss.files.products import Product, read_fingerprint
from fmawsss.files.tensor_files import require_whole
from infer import (
    apply_stage,
    build_module,
    build_trainer,
    build_writers,
    describe_inputs,
    find_checkpoint,
    keep_record,
    measure,
    open_data,
    plain,
    prepare_run,
    start_product,
)
from lightning_modules.features import FeatureModule
from lightning_modules.learned import learns, read_fitting
from lightning_modules.prompts import PromptModule
from stages.dashboards import open_stage_loggers
from stages.places import make_folder
from stages.scores import print_scores, write_scores

logger = logging.getLogger("fmawsss")


@hydra.main(version_base=None, config_path=str(Path(__file__).parent / "conf"), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run the chosen stage, or every stage of the pipeline; return the number that a sweep
    maximises.
    """
    prepare_run(cfg)
    refuse_ambiguity(cfg)
    learn_from_split(cfg)
    with keep_record(cfg):
        return run_stages(cfg)


def run_stages(cfg: DictConfig) -> float | None:
    """Build every stage, then run them in turn."""
    stages = list(cfg.stages.values()) if "stages" in cfg else [cfg]
    for number, (stage, module) in enumerate(
        zip(stages, build_modules(cfg, stages), strict=True), start=1
    ):
        logger.info("stage %d of %d: %s", number, len(stages), stage.stage)
        run_stage(cfg, stage, module)
    print_scores(Path(cfg.paths.work) / "scores.json")
    return measure(cfg)


def build_modules(cfg: DictConfig, stages: list[DictConfig]) -> list[L.LightningModule]:
    """Open and build every stage before the first one runs: missing images and weights show now,
    not after hours.
    """
    later = (
        dict.fromkeys(("seeds", "superpixels", "confidence")) if len(stages) > 1 else {}
    )  # made by earlier stages
    modules = []
    for stage in stages:
        for purpose in ("fit", "predict") if "learns" in stage else ("predict",):
            datamodule = open_data(cfg, stage, purpose, **later)
        modules.append(build_module(cfg, stage, datamodule))
        foresee(cfg, stage, modules[-1])
    return modules


def foresee(cfg: DictConfig, stage: DictConfig, module: L.LightningModule) -> None:
    """Raise for what a training would end without: a place for the product, its writers, the
    checkpoint to apply.
    """
    build_writers(cfg, stage)
    make_folder(stage.emits, "emits")
    if not learns(module):
        return
    make_folder(Path(stage.learns).parent, "learns")
    if stage.val_every is not None and stage.data.val_split is None:
        raise ValueError(
            f"val_every={stage.val_every}, but stage {stage.stage} has no images to validate on: "
            "set data.val_split to a split that has masks, or val_every=null"
        )
    chosen = str(cfg.ckpt or stage.get("apply_step") or "")
    kept = (
        chosen.isdigit()
        and int(chosen) % stage.save_every == 0
        and 0 < int(chosen) <= stage.loop.max_steps
    )
    if chosen and not kept:
        try:
            read_fitting(find_checkpoint(cfg, stage), module)
        except FileNotFoundError as error:
            steps = f"this training keeps every {stage.save_every}th step (save_every) up to {stage.loop.max_steps}"
            raise FileNotFoundError(f"{error}; {steps}") from error


def refuse_ambiguity(cfg: DictConfig) -> None:
    """Raise ValueError for settings of one stage that are given to a pipeline, and for tasks that
    learn nothing.
    """
    if "job" in cfg:
        raise ValueError(f"task={cfg.stage} learns nothing: use `python infer.py task={cfg.stage}`")
    if "stages" not in cfg:
        return
    for key, remedy in (
        ("ckpt", "task=cls ckpt=…"),
        ("split", "task=cls split=…"),
        ("shard", "task=superpixels shard=…"),
        ("writers", "task=cls callbacks=cams"),
    ):
        if cfg.get(key) is not None:
            raise ValueError(
                f"{key} belongs to one stage, not to the pipeline: use `python infer.py {remedy}`"
            )
    if any(stage.data.get("confidence") for stage in cfg.stages.values()):
        raise ValueError(
            "a pipeline keeps no confidence of its seeds: run it with hard targets, then `python "
            "infer.py task=seg "
            "callbacks=seed_confidence`, then `python train.py task=network targets=…`"
        )


def learn_from_split(cfg: DictConfig) -> None:
    """Let `split` name the images to learn from; a stage that is applied to those, as seeds are,
    follows.
    """
    if cfg.split is None or "learns" not in cfg:
        return
    if cfg.data.predict_split == cfg.data.train_split:
        cfg.data.predict_split = cfg.split
    cfg.data.train_split, cfg.split = cfg.split, None


def run_stage(cfg: DictConfig, stage: DictConfig, module: L.LightningModule) -> None:
    """Learn what there is to learn, then emit and score the stage's product."""
    with open_stage_loggers(instantiate(cfg.logger), stage.stage) as loggers:
        if learns(module):
            learn_stage(cfg, stage, module, loggers)
            report_validations(cfg, stage)
        apply_stage(cfg, stage, module, loggers, [Path(stage.learns)] if learns(module) else [])


def report_validations(cfg: DictConfig, stage: DictConfig) -> None:
    """Enter the last and the best validation of the training in the table, each by its name."""
    reported = choose_reported(read_validations(Path(stage.learns)))
    if reported and rank_zero_only.rank == 0:
        split = f"{','.join(name_splits(stage.data.val_split))} during training"
        scores, details = (
            {name: found[part] for name, found in reported.items()} for part in range(2)
        )
        write_scores(Path(cfg.paths.work) / "scores.json", stage.stage, split, scores, details)


def learn_stage(
    cfg: DictConfig, stage: DictConfig, module: L.LightningModule, loggers: list[Logger]
) -> None:
    """Train, or go on training, until the stage's checkpoint is complete."""
    datamodule = open_data(cfg, stage, "fit")
    product = describe_learning(cfg, stage, module)
    split, inputs = describe_inputs(datamodule, datamodule.train_split)
    steps = Path(cfg.paths.work) / "checkpoints" / stage.stage
    best = product.path.with_name(f"{product.path.stem}_best.ckpt")
    start_product(product, split, inputs, cfg.overwrite, [steps, place_record(product.path), best])
    if product.is_complete(split) and product.path.is_file():
        logger.info("%s: %s is complete, skipped", stage.stage, product.path)
        return

    if cfg.cache.store is not None and "views" in stage.data:
        datamodule.store = encode_views(cfg, stage, module, datamodule, inputs)
    saver = ModelCheckpoint(
        steps,
        "step_{step:06d}",
        auto_insert_metric_name=False,
        every_n_train_steps=stage.save_every,
        save_top_k=-1,
    )
    settings = {**plain(stage.loop), **validate_every(stage), "logger": loggers or False}
    averaging = list(instantiate(stage.get("averaging") or {}).values())
    watching = instantiate(stage.get("validation") or {}) if stage.val_every is not None else {}
    trainer = build_trainer(
        cfg, stage, [saver, TrainingSignals(), *averaging, *watching.values()], settings
    )
    trainer.fit(module, datamodule, ckpt_path=find_last_step(steps))
    for (
        callback
    ) in averaging:  # nothing happens at the end of a training that a resume finds finished
        callback.on_train_end(trainer, module)
    trainer.save_checkpoint(product.path, weights_only=True)
    if trainer.is_global_zero:
        if "best" in watching and watching["best"].best_model_path:
            keep_learned(watching["best"].best_model_path, best)
        product.finish(split)


def encode_views(
    cfg: DictConfig,
    stage: DictConfig,
    module: PromptModule,
    datamodule: SegmentationDataModule,
    inputs: str,
) -> FeatureStore:
    """Return what the frozen encoder makes of the fixed training views, encoding those that no run
    encoded before.
    """
    views = datamodule.describe_views()
    first = FeatureModule(module).predict_step(collate_samples([views.read_view(0)]))
    trainer = build_trainer(cfg, stage, [], {"logger": False}, action="encode views")
    build, name = (
        instantiate(cfg.cache.store),
        f"{stage.stage}_{digest_views(cfg, stage, module, inputs)}",
    )
    Path(cfg.cache.store.folder).mkdir(parents=True, exist_ok=True)
    with (
        FileLock(f"{cfg.cache.store.folder}/{name}.lock")
        if trainer.is_global_zero
        else nullcontext()
    ):
        store = build(name=name, rows=len(views.records) * views.views, sample=first)
        remaining = store.list_remaining()
        if remaining:
            trainer.callbacks.append(FeatureWriter(store))
            loader = datamodule.view_dataloader(remaining, trainer.global_rank, trainer.world_size)
            trainer.predict(FeatureModule(module), loader, return_predictions=False)
            trainer.strategy.barrier()
    logger.info(
        "%s: %d views encoded now, %d before",
        stage.stage,
        len(remaining),
        store.rows - len(remaining),
    )
    return store


def digest_views(cfg: DictConfig, stage: DictConfig, module: PromptModule, inputs: str) -> str:
    """Digest all that the features of the training views depend on; prompts and losses are not
    among it.
    """
    product = describe_learning(cfg, stage, module)
    data = {
        key: value
        for key, value in product.settings["data"].items()
        if key not in ("batch_size", "micro_batches")
    }
    clip = strip_incidental(plain(stage.module.clip))
    task = {
        "module": stage.module["_target_"],
        "clip": clip,
        "weights": product.settings["weights"],
    }
    source = {
        "dataset": product.settings["dataset"],
        "data": data,
        "seed": cfg.seed,
        "inputs": inputs,
    }
    return fingerprint(
        {
            **task,
            **source,
            "dtype": cfg.cache.dtype,
            "precision": cfg.trainer.precision,
            "upstream": product.upstream,
        }
    )


def validate_every(stage: DictConfig) -> dict[str, Any]:
    """Count validations in optimiser steps, as everything else; null for none."""
    if stage.val_every is None:
        return {"limit_val_batches": 0}
    return {
        "val_check_interval": stage.val_every * stage.data.micro_batches,
        "check_val_every_n_epoch": None,
    }


def describe_learning(cfg: DictConfig, stage: DictConfig, module: L.LightningModule) -> Product:
    """Describe what training makes: from which settings and seeds. What only prediction uses does
    not count.
    """
    node, data = plain(stage.module), plain(stage.data)
    node = {key: value for key, value in node.items() if key not in ("seeding", "val_powers")}
    upstream = {
        key: read_fingerprint(Path(data[key])) for key in ("seeds", "confidence") if data.get(key)
    }
    unused = ("predict", "val", "superpixels", "resize", "truths", "originals")
    data = {key: value for key, value in data.items() if not key.startswith(unused)}
    settings = {"dataset": plain(cfg.dataset), "module": node, "data": data, "seed": cfg.seed}
    settings["weights"] = digest_weights(module)
    if cfg.cache.store is not None:
        settings["features"] = cfg.cache.dtype
    settings["loop"] = {"precision": cfg.trainer.get("precision"), **plain(stage.loop)}
    if stage.get("averaging"):
        settings["averaging"] = plain(stage.averaging)
    return Product(Path(stage.learns), strip_incidental(settings), upstream)


def find_last_step(folder: Path) -> str | None:
    """Return the newest checkpoint of an unfinished training, if there is one."""
    steps = sorted(folder.glob("step_*.ckpt"))
    if not steps:
        return None
    require_whole(steps[-1], "delete it, and training goes on from the one before")
    logger.info("going on from %s", os.path.relpath(steps[-1]))
    return str(steps[-1])


if __name__ == "__main__":
    main()
