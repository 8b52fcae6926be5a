"""A few kills of the many that `python -m tests.slow.kills` makes."""

from __future__ import annotations

import pytest

from .kills.trials import try_kills


@pytest.mark.slow
def test_killed_stories_end_as_undisturbed_ones(tmp_path):
    trials = list(try_kills(tmp_path, kills=12, seed=1))
    assert sum(len(trial.strikes) for trial in trials) >= 12
    assert [(trial.number, trial.faults, trial.strikes) for trial in trials if trial.faults] == []
