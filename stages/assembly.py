"""From a config to the stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.sources import find_source
from fmawsss.files.json_files import many_objects
from stages.builder import StageBuilder
from stages.config import list_nodes, refuse_missing
from stages.hush import hush_loggers
from stages.others import choose_others
from stages.schedule import choose_steps
from stages.stage import FeatureCache, Run, Stage


def build_run(cfg: DictConfig, stages: Sequence[str]) -> Run:
    """Build what all stages of a run share."""
    hush_loggers(HydraConfig.get().job_logging.get("loggers") or {})
    options, paths = cfg.options, cfg.paths
    cache = None
    if cfg.cache.store is not None:
        store = instantiate(cfg.cache.store)
        cache = FeatureCache(Path(cfg.cache.store.folder), cfg.cache.dtype, store)
    return Run(
        folder=Path(HydraConfig.get().runtime.output_dir),
        work=Path(paths.work),
        base=Path(paths.base),
        outputs=Path(paths.outputs),
        typed=tuple(HydraConfig.get().overrides.task),
        dataset=paths.dataset,
        photos=find_photos(cfg),
        others=paths.others.removesuffix("/."),
        stages=tuple(stages),
        overwrite=options.overwrite,
        ckpt=None if options.ckpt is None else str(options.ckpt),
        shard=options.shard,
        seed=cfg.seed,
        precision=str(cfg.trainer.precision),
        cache=cache,
        trainer=instantiate(cfg.trainer, _partial_=True, _convert_="all"),
        loggers=instantiate(cfg.logger),
    )


@many_objects()
def build_stages(cfg: DictConfig, learning: bool) -> list[Stage]:
    """Build all stages of a run, to learn them or only to apply them."""
    return [builder.build() for builder in prepare_builders(cfg, learning)]


def prepare_builders(cfg: DictConfig, learning: bool) -> list[StageBuilder]:
    """Prepare what builds the stages of a run; how long each learns is settled here.

    Raises:
        ValueError: for a pipeline that is only to be applied; each of its stages can be.
    """
    nodes = list_nodes(cfg)
    if len(nodes) > 1 and not learning:
        raise ValueError(
            f"task={cfg.name} cannot be applied on its own; use `python train.py task={cfg.name}`"
        )
    refuse_missing(cfg)
    run = build_run(cfg, [node.name for node in nodes.values()])
    builders = [StageBuilder(cfg, place, node, run, learning) for place, node in nodes.items()]
    return [choose_length(builder) for builder in builders] if learning else builders


def choose_length(builder: StageBuilder) -> StageBuilder:
    """Settle how long a stage learns, and what it says of that."""
    steps, count = builder.cfg.options.steps, partial(count_images, builder)
    return replace(builder, told=choose_steps(builder.node, count, steps))


def count_images(builder: StageBuilder, splits: Any) -> int:
    """Count the images of one or several splits."""
    return len(builder.build_data().read_records(splits))


def find_photos(cfg: DictConfig) -> Path | None:
    """Return the folder that photos come from; None for a data set that is no source of photos."""
    if cfg.dataset.get("frames") is None or OmegaConf.is_missing(cfg.dataset, "root"):
        return None
    return find_source(Path(cfg.dataset.root))


def place_others(cfg: DictConfig) -> None:
    """Have masks of other photos than the results are of written to a folder of their own."""
    nodes = list_nodes(cfg).values()
    outputs = [OmegaConf.to_container(node.runtime)["output"] for node in nodes]
    if len(outputs) != 1 or "${paths.others}" not in str(outputs[0]):
        return
    refuse_missing(cfg)
    if (photos := find_photos(cfg)) is not None:
        others = choose_others(Path(cfg.paths.work), cfg.name, photos)
        cfg.paths.others = others or cfg.paths.others
