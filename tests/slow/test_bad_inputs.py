"""Three hundred bad inputs, each judged in a process of its own: bad_inputs/__init__.py."""

from __future__ import annotations

import pytest
from slow.bad_inputs.judge import Judge
from slow.bad_inputs.kinds import ALL, CASES, GOALS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    judge = Judge(tmp_path_factory.mktemp("judge"))
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def project(judge, tmp_path_factory):
    return judge.make_project(tmp_path_factory.mktemp("good") / "project")


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.kind}-{case.name}")
def test_a_bad_input_is_told(case, judge, project):
    verdict = judge.try_case(case, project)
    assert verdict.word == "good", verdict


@pytest.mark.parametrize("kind", GOALS)
def test_there_are_enough_of_each_kind(kind):
    assert len(CASES[kind]) >= GOALS[kind]
