"""Open the loggers of a stage: how its run is called in W&B, and which run a training goes on."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from fmawsss.files.writing import write_bytes
from stages.stage import Stage
from stages.words import name_key

LONGEST_NAME = 120
# What says where a run works, not what it does
UNNAMED = (
    *("task", "dataset", "learn", "logger", "trainer", "report"),
    *("paths", "loading", "hydra", "options"),
)


class StageWandbLogger(WandbLogger):
    """W&B's logger, which knows how much of what a stage made is stored.

    stored_mb: products up to so many megabytes are uploaded, larger ones referred to; 0: none.
    settings: of Lightning's `WandbLogger` and of `wandb.init`.
    """

    def __init__(self, *, stored_mb: float = 100, **settings: Any) -> None:
        super().__init__(**settings)
        self.stored_mb = stored_mb


@contextmanager
def open_stage_loggers(stage: Stage) -> Iterator[list[Logger]]:
    """Open the loggers of a stage, for its learning and its application alike.

    Each gets the settings of the stage. At the end, also after an error, those that keep one run
    per process (W&B) are ended.
    """
    loggers = [open_logger(build, stage) for build in stage.run.loggers.values()]
    try:
        yield loggers
        place_run_id(stage).unlink(missing_ok=True)
    finally:
        if any(isinstance(open_logger, WandbLogger) for open_logger in loggers):
            end_wandb_run()


def open_logger(build: Callable[..., Logger], stage: Stage) -> Logger:
    """Open one logger; what was typed of it (`logger.wandb.name=`) counts, null is filled in."""
    typed: Mapping[str, Any] = build.keywords if isinstance(build, partial) else {}
    if not is_wandb(build):
        opened = build(name=typed.get("name") or stage.name)
        opened.log_hyperparams(dict(stage.config))
        return opened
    filled = {
        "name": name_run(stage),
        "id": choose_run_id(stage),
        "job_type": stage.name,
        "tags": [stage.run.dataset],
    }
    given = {key: typed.get(key) for key in filled}
    return build(**{key: given[key] or value for key, value in filled.items()})


def is_wandb(build: Callable[..., Logger]) -> bool:
    """Say whether what builds a logger is W&B's."""
    made = build.func if isinstance(build, partial) else build
    return isinstance(made, type) and issubclass(made, WandbLogger)


def name_run(stage: Stage) -> str:
    """Name a run: its stage, and what was typed beside task, data set and places."""
    return name_words(stage.name, stage.run.typed)


def name_words(stage: str, words: Sequence[str]) -> str:
    """Name a run by its stage and words of the command line.

    >>> name_words("cls", ["task=cls", "stage.training.loop.max_steps=3", "paths.work=x", "seed=1"])
    'cls max_steps=3 seed=1'

    What was typed of another stage of a pipeline is not named.

    >>> name_words("seg", ["stages.cls.runtime.save_every=2", "prompts@stages.seg.model.prompts=x"])
    'seg prompts=x'
    """
    named = [word for word in words if name_key(word).split(".")[0] not in UNNAMED]
    told = [word for word in named if find_stage(word) in (None, stage)]
    short = [f"{name_key(word).rpartition('.')[2]}={word.partition('=')[2]}" for word in told]
    return " ".join([stage, *short])[:LONGEST_NAME]


def find_stage(word: str) -> str | None:
    """Find the stage of a pipeline that a word belongs to; None for one of the whole run."""
    found = re.search(r"(?:^|@)stages\.(\w+)", word.lstrip("+~").partition("=")[0])
    return found[1] if found else None


def choose_run_id(stage: Stage) -> str:
    """Choose the id of a run in W&B: that of the training which goes on, else a new one.

    Until a stage is done, it is noted beside the checkpoints of its training.
    """
    place = place_run_id(stage)
    begun = place.is_file() and any(stage.steps.glob("*.ckpt"))
    if begun and not stage.run.overwrite:
        return place.read_text(encoding="utf-8").strip()
    chosen = secrets.token_hex(4)
    if stage.training is not None and rank_zero_only.rank == 0:
        write_bytes(place, chosen.encode())
    return chosen


def place_run_id(stage: Stage) -> Path:
    """Say where the id of a stage's run in W&B is noted."""
    return stage.steps.with_name(f".{stage.steps.name}.wandb")


def end_wandb_run() -> None:
    """End the run of this process in W&B, if anything was logged to it."""
    import wandb

    # the logger's `experiment` would open a run to end it
    if wandb.run is not None:
        wandb.run.finish()
