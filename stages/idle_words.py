"""Choices of the command line that a run would pass over: refused, or told."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import nullcontext
from inspect import signature
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from stages.config import is_job, is_sweep, list_nodes
from stages.door import end_in_words
from stages.words import begins, name_key, shorten_key

logger = logging.getLogger(__name__)

WEIGHTS = ("clip", "sam", "masks")  # shared by all tasks, and typed for all of them
MET = ("none", "cpu", "auto")  # choices that a run keeps to where it has nothing of the kind
LEARNED = ("loss", "optimizer", "scheduler", "augment", "averaging", "targets")
STAGES = ("superpixels", "cls", "seg", "network")  # of a pipeline, with recipes of their own
SEEDERS = ("cls", "seg", "seeds")
KEEPERS = {  # the tasks whose predictions a choice of callbacks= can keep
    "cams": SEEDERS,
    "cams_half": SEEDERS,
    "regions": (*SEEDERS, "text"),
    "seed_confidence": (*SEEDERS, "memory", "text"),
    "instances": ("text",),
    "confidence": ("network",),
}
OF_NODES = ("options.compile", "options.shots", "options.corrected")  # what stages refer to
SWITCHES = ("options.ckpt", "options.overwrite", "options.plan", "options.shard", *OF_NODES)
LEARNERS = ("pipeline", "cls")  # of which learn= says whether they learn prompts
KNOWN = {"superpixels", "labels", "templates", "memory", "network", "text", *SEEDERS}
ASKED = ("sam3", "grounding_dino")  # sources of evidence that are asked with phrases
READERS = {  # what only some stages refer to, and which
    "dataset.phrases": "`task=text evidence=sam3` and `python train.py evidence=fused` ask them",
    "options.dino": "affinity=dino, dino_proxy, dino_superpixels and region_keys=dino take it",
}
EXPORTS = "what is made is written for other tools by `python infer.py task=network save_as=[…]`"
REMEDIES = {
    "save_as": EXPORTS,
    "cache": "it keeps what trainings of prompts see, `python train.py task=cls cache=features`",
    "criterion": "it chooses among the jobs of a sweep, `-m`",
    "memory": "`callbacks=regions` keeps what `python infer.py task=memory` needs",
    "evidence": "it is for `python train.py`, `python infer.py task=text` and `task=memory`",
    "learn": "it says whether cls learns prompts, and from which seeds a network learns",
    "callbacks": "a job makes no product of images",
    "logger": "a job logs nothing",
    "debug": "it shortens stages",
    "trainer": "a job runs on the CPU, or asks for no trainer",
    "report": "a job writes no report",
    **dict.fromkeys(LEARNED, "it is learned with, `python train.py`"),
    "network": "the checkpoint brings its own; only network=own names what none may choose",
}


def refuse_idle(cfg: DictConfig, learning: bool) -> None:
    """Refuse choices that have no part in a run; of a sweep, that ends its job.

    Raises:
        ValueError: for such a choice; weights are only told.
    """
    with nullcontext() if is_sweep() else end_in_words():
        look_at_choices(cfg, learning)


def look_at_choices(cfg: DictConfig, learning: bool) -> None:
    """Look at the choices that were typed, and raise ValueError for one that has no part."""
    acting, choices = list_acting(cfg, learning), HydraConfig.get().runtime.choices
    task, learned = choices["task"], choices.get("learn")
    check_evidence(task, choices["evidence"], choices["memory"], learned)
    for word in HydraConfig.get().overrides.task:
        key, choice = name_key(word), word.partition("=")[2]
        makers = KEEPERS.get(choice, ()) if key == "callbacks" else ()
        if makers and task in KNOWN.difference(makers):
            raise ValueError(
                f"callbacks={choice} keeps what task={', '.join(makers)} makes: task={task} makes "
                "nothing of the kind, leave it out"
            )
        if word.startswith("prompts@stage") and learned == "network" and task in LEARNERS:
            raise ValueError(
                f"{word.partition('=')[0]}= has no part in learn=network, which learns no prompts: "
                "learn=all, or prompts@options.prompts= with one of handwritten*"
            )
        if word.startswith("recipe="):
            require_recipe(choice, task)
        refuse_unread(cfg, key)
        if key in SWITCHES and not reads_switch(cfg, key):
            raise ValueError(
                f"{shorten_key(key)}={choice} has no part in task={cfg.name}, leave it out"
            )
        if (task, word) == ("report", "report=none"):
            raise ValueError(
                "report=none has no part in task=report, which writes one: leave it out"
            )
        if key in acting or choice in MET:
            continue
        if key in WEIGHTS or (key == "numbers" and not has_recipe(choice, task)):
            logger.info("%s changes nothing of task=%s", word, cfg.name)
        elif key in REMEDIES:
            raise ValueError(
                f"{key}={choice} has no part in task={cfg.name} here, leave it out: {REMEDIES[key]}"
            )


def check_evidence(task: str, evidence: str, memory: str, learned: str | None) -> None:
    """Raise ValueError for a source of evidence that a task cannot take, or not with the rest."""
    if task == "text" and evidence not in ASKED:
        raise ValueError(
            f"task=text asks a model with phrases, and evidence={evidence} is none: add "
            f"evidence={' or evidence='.join(ASKED)}"
        )
    if task == "pipeline" and evidence != "clip" and memory != "regions":
        raise ValueError(
            f"evidence={evidence} speaks through a memory of regions here: add memory=regions"
        )
    if task == "pipeline" and evidence in ASKED and learned != "network":
        raise ValueError(
            f"evidence={evidence} alone makes seeds without learned prompts: add learn=network, or "
            "take evidence=fused"
        )


def require_recipe(choice: str, task: str) -> None:
    """Raise ValueError unless a recipe is there, and for this task."""
    known, tasks = list_choices("recipe"), list_choices("task")
    fitting = [name for name in known if name.startswith(f"{task}_")]
    others = [name for name in tasks if choice.startswith(f"{name}_")]
    if choice not in known or (others and choice not in fitting):
        remedy = f"choose from {', '.join(fitting)}" if fitting else "leave it out"
        raise ValueError(f"recipe={choice}: task={task} has no recipe of that name; {remedy}")


def reads_switch(cfg: DictConfig, key: str) -> bool:
    """Say whether a run reads an option of the whole run."""
    if is_job(cfg):
        if key == "options.plan":  # of what it fetches
            return "downloads" in cfg.job
        if key in OF_NODES:
            return f"${{{key}}}" in str(OmegaConf.to_container(cfg.job))
        job = get_method(cfg.job["_target_"])
        return key == "options.ckpt" and "checkpoint" in signature(job).parameters
    return key not in OF_NODES or f"${{{key}}}" in str(OmegaConf.to_container(cfg))


def refuse_unread(cfg: DictConfig, key: str) -> None:
    """Raise ValueError for a word that changes what no stage of this run refers to.

    In a sweep other jobs may refer to it.
    """
    place = "options.dino" if key == "dino" else key
    for known, remedy in READERS.items():
        if is_sweep() or not begins(place, known):
            continue
        if not any(known in str(OmegaConf.to_container(node)) for node in list_nodes(cfg).values()):
            raise ValueError(
                f"{shorten_key(key)}= has no part in task={cfg.name} here, leave it out: {remedy}"
            )


def has_recipe(numbers: str, task: str) -> bool:
    """Say whether a task, or a stage of a pipeline, has a recipe of these numbers."""
    stages = STAGES if task in ("pipeline", "demo") else (task,)
    return not {f"{stage}_{numbers}" for stage in stages}.isdisjoint(list_choices("recipe"))


def list_choices(group: str) -> list[str]:
    """List the options of a group, those of one's own folders (--config-dir) too."""
    options: list[str] = GlobalHydra.instance().config_loader().get_group_options(group)
    return options


def list_acting(cfg: DictConfig, learning: bool) -> set[str]:
    """List the nodes and groups that a run reads."""
    if is_job(cfg):
        acting = find_read(cfg, ("job", "stages", "dataset"))
        return acting | {"save_as"} if "exports" in cfg.job else acting

    # a stage, or several
    acting = find_read(cfg, ("stage", "stages", "dataset"))
    task = HydraConfig.get().runtime.choices["task"]
    if task in ("text", "memory", "pipeline"):
        acting.add("evidence")
    acting |= {"callbacks", "logger", "report", "trainer", "debug"}
    if is_sweep():
        acting.add("criterion")
    if learning or task in ("cls", "seg", "text"):
        acting.add("memory")
    if cfg.name == "cls" or (learning and cfg.name in ("pipeline", "network")):
        acting.add("learn")
    if learning:
        return acting | {*LEARNED, "network"}
    own = any(map(brings_own, list_nodes(cfg).values()))
    return (acting | {"save_as", *(["network"] if own else [])}) - {"cache"}


def brings_own(node: DictConfig) -> bool:
    """Say whether a stage names a builder that no checkpoint may choose."""
    from fmawsss.networks.builders import NETWORKS  # a job goes without

    target = OmegaConf.select(node, "learning.network._target_")
    return target is not None and target not in NETWORKS


def find_read(cfg: DictConfig, names: Iterable[str]) -> set[str]:
    """Find the top-level nodes that some of them refer to, and those that these refer to."""
    content: dict[str, Any] = dict(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
    left, found = list(names), set()
    while left:
        name = left.pop()
        if name in content and name not in found:
            found.add(name)
            left += re.findall(r"\$\{(?:oc\.select:)?(\w+)", str(content[name]))
    return found
