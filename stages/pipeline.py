"""Run stages in turn: learn each one, apply it, publish what it made."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from stages.apply import apply
from stages.dashboards import open_stage_loggers
from stages.learn import learn
from stages.preflight import check_run
from stages.publish import publish
from stages.scores import print_scores
from stages.stage import Stage

logger = logging.getLogger(__name__)


def run_stages(stages: Sequence[Stage]) -> None:
    """Check all stages, then run them in turn, each skipped where its product is complete."""
    check_run(stages)
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            logger.info("stage %d of %d: %s", number, len(stages), stage.name)
        run_stage(stage)
    print_scores(stages[-1].run.work / "scores.json")


def run_stage(stage: Stage) -> None:
    """Learn what there is to learn, then make, score and publish the stage's product."""
    with open_stage_loggers(stage.run.loggers, stage.name) as loggers:
        if stage.training is not None:
            learn(stage, loggers)
        result = apply(stage)
        publish(stage, result, loggers)
