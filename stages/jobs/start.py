"""Run a job, a task without a product; what learns is loaded for those that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from stages.config import list_nodes, refuse_missing


def run_job(cfg: DictConfig) -> Any:
    """Run a task without a product, giving its function what it asks for by the names of arguments.

    Raises:
        ValueError: for a job that asks for something else.
    """
    refuse_missing(cfg, "job.")
    job = instantiate(cfg.job, _convert_="all")
    if cfg.options.plan:
        from stages.plan.archives import plan_archives

        return plan_archives(job.keywords, Path(cfg.dataset.root))
    offers: dict[str, Callable[[], Any]] = {
        "data": lambda: build_data(cfg),
        "builders": lambda: list_builders(cfg),
        "checkpoint": lambda: find_job_checkpoint(cfg),
    }
    asked = [p.name for p in signature(job).parameters.values() if p.default is p.empty]
    strange = sorted(set(asked) - set(offers))
    if strange:
        raise ValueError(
            f"task={cfg.name} needs job.{strange[0]}; jobs are given {', '.join(offers)}"
        )
    return job(**{name: offers[name]() for name in asked})


def build_data(cfg: DictConfig) -> Any:
    """Build the data set for a job, which needs no labels."""
    refuse_missing(cfg)
    return instantiate(cfg.dataset, _convert_="all")(labelled=False)


def list_builders(cfg: DictConfig) -> dict[str, Callable[..., Any]]:
    """List what builds the modules of the stages, for given classes and prompt names."""
    from stages.assembly import build_run
    from stages.builder import StageBuilder

    run = build_run(cfg, ())
    nodes = list_nodes(cfg)
    builders = {place: StageBuilder(cfg, place, node, run, True) for place, node in nodes.items()}
    return {nodes[place].name: builder.make_module for place, builder in builders.items()}


def find_job_checkpoint(cfg: DictConfig) -> Path:
    """Return the checkpoint of a network: as asked for, of this data set, or the only one."""
    from stages.assembly import build_run
    from stages.checkpoints import find_network

    run = build_run(cfg, ())
    return find_network(run, run.work / "network.ckpt", run.work / "checkpoints" / "network")
