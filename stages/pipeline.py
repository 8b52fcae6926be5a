"""Run stages in turn: learn each one, apply it, publish what it made."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from datamodules.shard import Shard
from fmawsss.files.journals import parse_journals
from fmawsss.files.json_files import many_objects, settled_objects
from fmawsss.files.listing import current
from fmawsss.files.locks import hold_lock, list_locks, place_lock
from fmawsss.files.writing import remove_leftovers
from stages.apply import apply
from stages.learn import learn
from stages.loggers import open_stage_loggers
from stages.places import undo_folders
from stages.preflight import check_run
from stages.publish import publish
from stages.scores import print_scores
from stages.stage import Stage

logger = logging.getLogger(__name__)


def run_stages(stages: Sequence[Stage]) -> None:
    """Check all stages, then run them in turn, each skipped where its product is complete."""
    with undo_folders(folder for stage in stages for folder in list_folders(stage)):
        with many_objects():
            check_run(stages)
            current().save()
        if rank_zero_only.rank == 0:
            remove_leftovers(stages[0].run.work, deep=True)
        with settled_objects():  # images by the hundred thousand
            for number, stage in enumerate(stages, start=1):
                if len(stages) > 1:
                    logger.info("stage %d of %d: %s", number, len(stages), stage.name)
                run_stage(stage)
                parse_journals.cache_clear()  # the next stage has its own
    print_scores(stages[-1].run.work / "scores.json")


def list_folders(stage: Stage) -> list[Path]:
    """List the folders that a stage works in."""
    folders = [stage.output.path, stage.output.path.parent, stage.run.work / "pictures"]
    if stage.training is not None:
        folders += [stage.checkpoint.parent, stage.steps]
    if stage.run.cache is not None:
        folders.append(stage.run.cache.folder)
    return folders


def run_stage(stage: Stage) -> None:
    """Learn what there is to learn, then make, score and publish the stage's product."""
    with lock_stage(stage), open_stage_loggers(stage) as loggers:
        if stage.training is not None:
            learn(stage, loggers)
        result = apply(stage)
        publish(stage, result, loggers)


@contextmanager
def lock_stage(stage: Stage) -> Iterator[None]:
    """Keep what a stage makes to this run, but for shards, which make it together.

    Raises Busy where another run makes it. Only the first process of several holds the locks.
    """
    if rank_zero_only.rank != 0:
        yield
        return

    # Shards make a product together, but none of them while it is made anew
    path, shard = stage.output.path, Shard.parse(stage.run.shard)
    locks = {place_lock(path, shard.number): path}
    if stage.run.overwrite:
        locks |= dict.fromkeys(list_locks(path), path)
    if stage.training is not None:
        locks[place_lock(stage.checkpoint)] = stage.checkpoint

    with ExitStack() as held:
        for lock in sorted(locks):
            held.enter_context(hold_lock(lock, locks[lock], "paths.work"))
        yield
