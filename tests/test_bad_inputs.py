"""A few of the bad inputs of tests/slow, and what the judge of all of them can tell apart."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from slow.bad_inputs.judge import BadInput, Judge, judge
from slow.bad_inputs.kinds import ALL, CASES

QUICK = ("unknown_option", "unknown_key", "steps_below_zero", "overwrite_maybe")
CASE = BadInput("case", "config", ["train.py"], None, names=r"a\.png", tells="cut off")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    warm = Judge(tmp_path_factory.mktemp("judge"))
    yield warm
    warm.close()


@pytest.mark.parametrize("name", QUICK)
def test_a_bad_input_is_told(name, warm, tmp_path):
    (case,) = (case for case in CASES["config"] if case.name == name)
    verdict = warm.try_case(case, tmp_path)
    assert verdict.word == "good", verdict


@pytest.mark.parametrize(
    ("status", "out", "err", "lost", "word"),
    [
        (1, "", "a.png is cut off\n", [], "good"),
        (
            1,
            "12:00:00 reading\n",
            "12:00:00 a\n12:00:00 b\na.png is cut off\nDo this\n",
            [],
            "good",
        ),
        (1, "a.png is cut off", "", [], "good"),
        (0, "12:00:00 a.png is cut off, left out\n", "", [], "good"),
        (1, "", "Traceback (most recent call last):\na.png is cut off\n", [], "raw"),
        (1, "", "a.png is cut off\none\ntwo\n", [], "raw"),
        (-11, "", "a.png is cut off\n", [], "raw"),
        (0, "", "", [], "silent"),
        (1, "", "a.png is cut off\n", ["cls.ckpt"], "loss"),
        (None, "", "", [], "hang"),
        (1, "", "something is cut off\n", [], "vague"),
        (1, "", "a.png is bad\n", [], "vague"),
    ],
)
def test_verdicts(status, out, err, lost, word):
    assert judge(CASE, status, out, err, lost) == word


def test_cases_have_names_of_their_own():
    assert max(Counter(case.name for case in ALL).values()) == 1
    assert all(case.kind == kind for kind, cases in CASES.items() for case in cases)


def test_no_two_cases_differ_by_a_number_alone():
    plain = [case for case in ALL if case.prepare is None]
    words = Counter(re.sub(r"-?\d+(\.\d+)?", "N", " ".join(case.command)) for case in plain)
    assert max(words.values()) == 1, words.most_common(3)
