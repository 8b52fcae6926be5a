"""Apply a stage to images: python infer.py task=network dataset=folder dataset.root=photos."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from callbacks.progress import follow_progress
from callbacks.score_journal import ScoreJournal
from callbacks.stage_timer import StageTimer
from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits, name_splits
from datamodules.shard import choose_shard
from fmawsss.files.fingerprints import digest_weights, fingerprint, strip_incidental
from fmawsss.files.journals import list_journals, refuse_changed
from fmawsss.files.products import ANY, Product, read_fingerprint
from fmawsss.networks.checkpoints import forget_weights, read_checkpoint
from lightning_modules.learned import learns, load_fitting
from stages.dashboards import open_stage_loggers, publish_stage
from stages.exports.masks import export_masks
from stages.hush import hush_warnings
from stages.places import make_folder
from stages.reports.report import StageNote, find_sources, note_stage
from stages.run_record import record_run
from stages.scores import enter_scores, print_scores

logger = logging.getLogger("fmawsss")
sys.path.append(
    str(Path(__file__).parent / "conf")
)  # Hydra finds the sweeper there, in `hydra_plugins`
OmegaConf.register_new_resolver(
    "folder", make_folder, replace=True
)  # before Hydra makes its own folders

# Settings of a module that only training, or its checkpoint, knows
LEARNING = {
    "loss",
    "optimizer",
    "scheduler",
    "val_powers",
    "network",
    "weights",
    "targets",
    "parameters",
    "seed",
}


@hydra.main(version_base=None, config_path=str(Path(__file__).parent / "conf"), config_name="infer")
def main(cfg: DictConfig) -> float | None:
    """Apply the chosen stage; return the number that a sweep maximises."""
    prepare_run(cfg)
    with keep_record(cfg):
        return run_task(cfg)


def run_task(cfg: DictConfig) -> float | None:
    """Do the job, or apply the stage."""
    if "job" in cfg:
        return run_job(cfg)
    if "emits" not in cfg:
        raise ValueError(
            f"task={cfg.stage} cannot be applied on its own; use `python train.py task={cfg.stage}`"
        )
    cfg = adopt_checkpoint(cfg) if "carried" in cfg else cfg
    datamodule = open_data(cfg, cfg, "predict")
    with open_stage_loggers(instantiate(cfg.logger), cfg.stage) as loggers:
        apply_stage(cfg, cfg, build_module(cfg, cfg, datamodule), loggers)
    exports = instantiate(cfg.get("save_as") or {}, _convert_="all")
    export_masks(exports, Path(cfg.emits), datamodule, cfg.stage, cfg.shard is not None)
    print_scores(Path(cfg.paths.work) / "scores.json")
    return measure(cfg)


def run_job(cfg: DictConfig) -> Any:
    """Run a task without a product: on a data set, on a checkpoint, or on what builds the modules
    of several stages.
    """
    job = instantiate(cfg.job, _convert_="all")
    if "stages" in cfg:
        return job(
            {
                name: partial(instantiate, part.module, _convert_="all")
                for name, part in cfg.stages.items()
            }
        )
    if "run" in cfg:
        return job(cfg.run)
    return job(build_data(cfg, cfg)) if "data" in cfg else job(find_checkpoint(cfg, cfg))


def prepare_run(cfg: DictConfig) -> None:
    """Give a sweep's job a folder of its own, and hush warnings about what is meant to be so."""
    if is_sweep() and cfg.paths.work == cfg.paths.base:
        folder = Path(HydraConfig.get().runtime.output_dir)
        cfg.group = str(folder.parent) if cfg.group == cfg.paths.work else cfg.group
        cfg.paths.work = str(folder)
    hush_warnings()


def keep_record(cfg: DictConfig) -> AbstractContextManager[None]:
    """Write `run.json` while a run goes on, and `report.html` when it ends well."""
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task)  # not to be resolved here
    what = {"stage": cfg.stage, "dataset": cfg.paths.dataset, "overrides": typed}
    draw = (
        partial(instantiate(cfg.report), cfg.paths.work)
        if cfg.report and "job" not in cfg
        else None
    )
    folder = Path(HydraConfig.get().runtime.output_dir)
    return record_run(
        folder, {**what, "job": "job" in cfg}, OmegaConf.to_yaml(cfg, resolve=True), draw
    )


def is_sweep() -> bool:
    """Say whether this run is one job of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def measure(cfg: DictConfig) -> float | None:
    """Return the number that a sweep maximises; a single run needs none."""
    return instantiate(cfg.criterion, _convert_="all") if is_sweep() else None


def adopt_checkpoint(cfg: DictConfig) -> DictConfig:
    """Take from the checkpoint what it was trained with: its classes, its network, how it wants to
    see images.
    """
    cfg = cfg.copy()
    path = find_checkpoint(cfg, cfg)
    checkpoint = read_checkpoint(path)
    logger.info("%s knows %s", path, ", ".join(checkpoint["classes"]))
    cfg.ckpt = str(path)
    with open_dict(cfg):
        cfg.dataset.classes = checkpoint["classes"]
        for settings in (checkpoint["carried"], {"data": cfg.inference.data}):
            for section, values in settings.items():
                cfg[section].update(values)
    return cfg


def open_data(
    cfg: DictConfig, stage: DictConfig, purpose: str, **more: Any
) -> SegmentationDataModule:
    """Open the stage's images and check them, for `fit` or `predict`."""
    datamodule = build_data(cfg, stage, **more)
    datamodule.prepare_data()
    datamodule.setup(purpose)
    return datamodule


def build_data(cfg: DictConfig, stage: DictConfig, **more: Any) -> SegmentationDataModule:
    """Instantiate the data set with the stage's settings, as it is on disk."""
    data = instantiate(stage.data, _convert_="all")
    data["predict_split"] = cfg.split or data["predict_split"]
    images = instantiate(cfg.dataset, _convert_="all")
    return images(**{**data, "seed": cfg.seed, **more})


def build_module(
    cfg: DictConfig, stage: DictConfig, datamodule: SegmentationDataModule
) -> L.LightningModule:
    """Instantiate what learns and predicts; missing weights show here, before any work starts."""
    L.seed_everything(cfg.seed, verbose=False)
    names: dict[str, Any] = {"classes": list(datamodule.class_names)}
    if "prompts" in stage.module:
        names["prompt_names"] = list(datamodule.classes)
    if "carried" in stage:
        names["carried"] = forget_weights(plain(stage.carried))
        names["config"] = {**plain(stage), "dataset": plain(cfg.dataset), "seed": cfg.seed}
    build = instantiate(stage.module, _partial_=True, _convert_="all")
    module: L.LightningModule = build(**names)
    if cfg.compile and hasattr(module, "compile_parts"):
        module.compile_parts()
    return module


def build_trainer(
    cfg: DictConfig,
    stage: DictConfig,
    callbacks: list[L.Callback],
    settings: Mapping[str, Any],
    action: str = "apply",
) -> L.Trainer:
    """Instantiate the trainer of the `trainer` group, a stage's own settings on top; `action` names
    predictions.
    """
    stages = [other.stage for other in cfg.stages.values()] if "stages" in cfg else [stage.stage]
    timer = StageTimer(Path(HydraConfig.get().runtime.output_dir), stage.stage, action)
    beside = [follow_progress(stage.stage, action, stages), timer]
    return instantiate(
        cfg.trainer,
        **settings,
        callbacks=[*callbacks, *beside],
        default_root_dir=cfg.paths.work,
        _convert_="all",
    )


def apply_stage(
    cfg: DictConfig,
    stage: DictConfig,
    module: L.LightningModule,
    loggers: Sequence[Logger],
    learned: Sequence[Path] = (),  # by this very run: to dashboards a product, and no source
) -> None:
    """Make the stage's product for each image of the split that lacks it; score it where ground
    truth is known.
    """
    product = describe_product(cfg, stage, module)
    datamodule = open_data(cfg, stage, "predict")
    split, inputs = describe_inputs(datamodule, datamodule.predict_split)
    inputs = ANY if stage.get("grows") else inputs
    parts = datamodule.list_parts(split, stage.get("also_scored") or ())
    picture = Path(cfg.paths.work) / "pictures" / f"{product.path.name}.png"
    shard = choose_shard(cfg.shard, cfg.overwrite, product.path)
    start_product(
        product,
        split,
        inputs,
        cfg.overwrite,
        [picture, picture.with_suffix(""), *list_journals(product.path)],
    )
    names = parts[split]
    mine = shard.choose(names)
    records = datamodule.read_records(datamodule.predict_split)
    if not datamodule.truths:
        records = [replace(record, truth=None) for record in records]
    journal = partial(ScoreJournal, product.path, records)
    writers = [*build_writers(cfg, stage), journal(shard.number)]
    datamodule.done = lambda name: name not in mine or all(writer.has(name) for writer in writers)
    if stage.get("grows") and not stage.get("keeps_changed"):
        refuse_changed(
            product.path, [r for r in datamodule.read_records(split) if datamodule.done(r.name)]
        )

    remaining = datamodule.list_remaining()
    if product.is_complete(split) and not remaining:
        logger.info("%s: %s is complete for %s, skipped", stage.stage, product.path, split)
    else:
        load_learned(cfg, stage, module)
        trainer = build_trainer(cfg, stage, writers, {"logger": False})
        trainer.predict(module, datamodule, return_predictions=False)
        trainer.strategy.barrier()
        everything = [*build_writers(cfg, stage), journal()] if trainer.is_global_zero else []
        if trainer.is_global_zero and (
            shard.is_whole or all(w.has(name) for w in everything for name in names)
        ):
            product.finish(split)
        elif trainer.is_global_zero:
            logger.info("%s: this shard is complete, others are not yet", stage.stage)

    if rank_zero_only.rank == 0:
        table = Path(cfg.paths.work) / "scores.json"
        scores = enter_scores(table, stage.stage, product.path, parts, datamodule.class_names)
        sources = find_sources(
            stage.data, find_checkpoint(cfg, stage) if learns(module) and not learned else None
        )
        made = StageNote(
            stage.stage,
            product.path,
            split,
            len(names),
            ("background", *datamodule.class_names),
            sources,
        )
        note_stage(Path(cfg.paths.work), made)
        if remaining:
            config = {**plain(stage), "dataset": plain(cfg.dataset), "seed": cfg.seed}
            publish_stage(loggers, Path(cfg.paths.work), made, scores, config, learned)


def build_writers(cfg: DictConfig, stage: DictConfig) -> list[L.Callback]:
    """Instantiate what writes the stage's product, and the `callbacks` group beside it."""
    writers = instantiate(stage.writers, _convert_="all")
    beside = instantiate(cfg.callbacks, _convert_="all")
    return [*writers.values(), *(callback(product=stage.emits) for callback in beside.values())]


def load_learned(cfg: DictConfig, stage: DictConfig, module: L.LightningModule) -> None:
    """Load what the stage learned, if there is anything to learn; raises FileNotFoundError naming
    the command.
    """
    if learns(module):
        load_fitting(find_checkpoint(cfg, stage), module)


def find_checkpoint(cfg: DictConfig, stage: DictConfig) -> Path:
    """Return the checkpoint to apply: `ckpt` (a path or a step), what the stage learned, or the
    only one elsewhere.
    """
    chosen = str(cfg.ckpt or stage.get("apply_step") or stage.learns)
    if chosen.isdigit():
        chosen = f"{cfg.paths.work}/checkpoints/{stage.stage}/step_{int(chosen):06d}.ckpt"
    path = Path(chosen)
    made_before = (
        Path(cfg.paths.base) / path.relative_to(cfg.paths.work)
        if path.is_relative_to(cfg.paths.work)
        else path
    )
    for place in (path, made_before):  # a sweep's job finds what the base run learned
        if place.is_file():
            return place
    others = (
        sorted(Path(cfg.paths.outputs).glob(f"*/{path.name}"))
        if "carried" in stage and not cfg.ckpt
        else []
    )
    if len(others) == 1:
        return others[0]
    choice = f"one of {', '.join(map(str, others))}" if others else "PATH"
    raise FileNotFoundError(
        f"{path}: no checkpoint of stage {Path(stage.learns).stem}; make it with "
        f"`python train.py task={Path(stage.learns).stem} dataset={cfg.paths.dataset}`, or name "
        f"one with ckpt={choice}"
    )


def describe_product(cfg: DictConfig, stage: DictConfig, module: L.LightningModule) -> Product:
    """Describe what applying the stage makes: from which settings, checkpoint and superpixels."""
    data, node = plain(stage.data), plain(stage.module)
    upstream = {}
    node = {key: value for key, value in node.items() if key not in LEARNING}
    if learns(module):
        upstream["checkpoint"] = read_fingerprint(find_checkpoint(cfg, stage))
    templates = node.get("prompts", {}).get("templates")
    if isinstance(templates, dict):  # read from a ranking of templates
        upstream["templates"] = read_fingerprint(Path(templates["path"]))
    for made in ("superpixels", "cams"):
        if data.get(made):
            upstream[made] = read_fingerprint(Path(data[made]))
    settings = {"module": node, "resize": data["resize"], "writers": plain(stage.writers)}
    settings |= {"weights": digest_weights(module), "precision": cfg.trainer.precision}
    if data.get("labelled", True):
        settings["dataset"] = plain(cfg.dataset)
    return Product(Path(stage.emits), strip_incidental(settings), upstream)


def plain(node: Any) -> Any:
    """Resolve a config node to plain lists and dictionaries."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def describe_inputs(datamodule: SegmentationDataModule, splits: Splits) -> tuple[str, str]:
    """Name the splits in one word, and digest their images and labels in another."""
    names = name_splits(splits)
    described = datamodule.describe_inputs()
    return ",".join(names), fingerprint({name: described[name] for name in names})


def start_product(
    product: Product, split: str, inputs: str, overwrite: bool, beside: Sequence[Path]
) -> None:
    """Open a product and a part of it, once for all processes, while the others wait."""
    if rank_zero_only.rank == 0:
        product.open(overwrite, beside)
        product.start(split, inputs)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


if __name__ == "__main__":
    main()
