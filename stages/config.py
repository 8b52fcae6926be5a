"""What a run is by its config: stages or a job, its record, the number that a sweep maximises.

Nothing here loads what learns: jobs go without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fmawsss.files.listing import open_listing
from stages.devices import check_accelerator, tell_device
from stages.door import end_in_words
from stages.hush import hush_warnings
from stages.places import closing_scratch
from stages.range_check import check_pairs, check_ranges
from stages.run_record import record_run
from stages.signals import answer_signals
from stages.words import shorten_key

LISTING = ".checked_files.json"  # below paths.base: what earlier runs found in files
SECTIONS = {
    "name", "labelled", "takes", "model", "learning", "applying", "training", "prediction",
    "writers", "carried", "runtime",
}  # fmt: skip


def plain(node: Any) -> Any:
    """Resolve a config node to plain lists, dictionaries and values."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def is_sweep() -> bool:
    """Say whether this run is one job of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def place_job(cfg: DictConfig) -> None:
    """Give a sweep's job a folder of its own; all jobs are one group in dashboards.

    The stages of a run are one group as well.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if cfg.paths.group is None:
        cfg.paths.group = str(folder.parent if is_sweep() else folder)
    if is_sweep() and cfg.paths.work == cfg.paths.base:
        cfg.paths.work = str(folder)


def list_nodes(cfg: DictConfig) -> dict[str, DictConfig]:
    """List the nodes of the stages of a run by their places in the config.

    Raises:
        ValueError: for a section that no stage has.
    """
    single = OmegaConf.select(cfg, "stage")
    several = OmegaConf.select(cfg, "stages", default={})
    if single is not None and several:
        raise ValueError(
            "a pipeline has several stages, but callbacks= or a key of `stage` belongs to one: use "
            "`python infer.py task=cls callbacks=cams`, or name the stage (stages.cls.…)"
        )
    nodes = {f"stages.{name}": node for name, node in several.items() if node}
    if single is not None:
        nodes = {"stage": single}
    for place, node in nodes.items():
        strange = sorted(set(node) - SECTIONS)
        if strange:
            raise ValueError(f"{place} has no {', '.join(strange)}; it has {', '.join(SECTIONS)}")
    return nodes


def refuse_ambiguity(cfg: DictConfig) -> None:
    """Raise ValueError for settings of one stage that are given to a pipeline."""
    nodes = list_nodes(cfg)
    if len(nodes) < 2:
        return
    remedies = {
        "ckpt": "task=cls ckpt=…",
        "split": "task=cls split=…",
        "shard": "task=superpixels shard=…",
    }
    for key, remedy in remedies.items():
        if cfg.options[key] is not None:
            raise ValueError(
                f"{key} belongs to one stage, not to the pipeline: use `python infer.py {remedy}`"
            )
    if any(node.training.inputs.get("confidence") for node in nodes.values()):
        raise ValueError(
            "a pipeline keeps no confidence of its seeds: run it with hard targets, then "
            "`python infer.py task=seg callbacks=seed_confidence` (of a memory: task=memory), then "
            "`python train.py task=network targets=…`"
        )


@contextmanager
def open_run(cfg: DictConfig) -> Iterator[None]:
    """Write `run.json` while a run goes on, and `report.html` when it ends well.

    An error ends the program with two lines; of a sweep, its job.
    """
    with answer_signals(), nullcontext() if is_sweep() else end_in_words():
        hush_warnings()
        check_config(cfg)
        if HydraConfig.get().runtime.choices.get("trainer") == "auto" and not is_job(cfg):
            tell_device()
        place_job(cfg)
        folder = Path(HydraConfig.get().runtime.output_dir)
        config = OmegaConf.to_yaml(cfg, resolve=True)
        first = is_first(cfg)
        record = record_run(folder, describe_run(cfg), config, find_report(cfg))
        listing = Path(cfg.paths.base) / LISTING if first else None
        with (
            closing_scratch(),
            record if first and not cfg.options.plan else nullcontext(),
            open_listing(listing, remembers=not is_job(cfg)),  # a demo may go on for days
        ):
            yield


def is_first(cfg: DictConfig) -> bool:
    """Say whether this is the process of a run that writes; a job has but one."""
    if is_job(cfg):
        return True
    from lightning.pytorch.utilities import rank_zero_only

    return bool(rank_zero_only.rank == 0)


def check_config(cfg: DictConfig) -> None:
    """Raise ValueError for a value outside its range, before anything is built or fetched."""
    if without := [group for group in ("experiment", "sweep") if group in cfg]:
        raise ValueError(
            f"{without[0]}=NAME changes nothing: expected settings (KEY: VALUE) in its YAML, and "
            "`# @package _global_` in the first line"
        )
    nodes = list_nodes(cfg)
    for resolve in (False, True):  # where a value is repeated, the first is told
        check_ranges(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve)))
    check_pairs({place: plain(node) for place, node in nodes.items()})
    check_accelerator(OmegaConf.select(cfg, "trainer.accelerator"))


def refuse_missing(cfg: DictConfig, within: str = "") -> None:
    """Raise ValueError for a setting without a value that a stage, its data or a job need."""
    missing = [
        key
        for key in OmegaConf.missing_keys(cfg)
        if key.startswith(within) and not key.startswith("hydra")
    ]
    if missing:
        short = shorten_key(min(missing))
        raise ValueError(f"{short} has no value, and needs one here: set {short}=…")


def describe_run(cfg: DictConfig) -> dict[str, Any]:
    """Name a run: its stage, its data set, what was typed."""
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task)  # not to be resolved here
    return {
        "stage": cfg.name,
        "dataset": cfg.paths.dataset,
        "overrides": typed,
        "job": is_job(cfg),
    }


def find_report(cfg: DictConfig) -> Callable[[], None] | None:
    """Return what draws the report of a run; None where there is none."""
    return (
        partial(instantiate(cfg.report), cfg.paths.work) if cfg.report and not is_job(cfg) else None
    )


def choose_split(cfg: DictConfig, learning: bool) -> None:
    """Let `split` name the images to apply a stage to, to learn it from, or to do a job on.

    A stage that is applied to the images that it learns from, as seeds are, follows.
    """
    if cfg.options.split is None:
        return
    if OmegaConf.select(cfg, "job.splits") is not None:
        cfg.job.splits = cfg.options.split
    for node in list_nodes(cfg).values():
        follows = node.training.view is None or node.runtime.apply_to == node.training.view.split
        if not learning or follows:
            node.runtime.apply_to = cfg.options.split
        if learning and node.training.view is not None:
            node.training.view.split = cfg.options.split


def measure(cfg: DictConfig) -> float | None:
    """Return the number that a sweep maximises; a single run needs none."""
    return instantiate(cfg.criterion, _convert_="all") if is_sweep() else None


def is_job(cfg: DictConfig) -> bool:
    """Say whether the task is a job, which makes no product of images."""
    return OmegaConf.select(cfg, "job") is not None


def refuse_job(cfg: DictConfig) -> None:
    """Raise ValueError for a task that is no stage and learns nothing."""
    if is_job(cfg):
        raise ValueError(f"task={cfg.name} learns nothing: use `python infer.py task={cfg.name}`")
