"""A few kills of the many that `python -m tests.slow.kills` makes."""

from __future__ import annotations

import pytest

from .kills.stories import STORIES
from .kills.trials import try_kills


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_killed_stories_end_as_undisturbed_ones(story, tmp_path):
    kills = 12 if story == "pipeline" else 4
    trials = list(try_kills(tmp_path, STORIES[story], kills, seed=1))
    assert sum(len(trial.strikes) for trial in trials) >= kills
    assert [(trial.number, trial.faults, trial.strikes) for trial in trials if trial.faults] == []
