"""Effects of a sweep's settings against hand numbers."""

from __future__ import annotations

import math

import pytest

from stages.sweeps.best import nest_settings
from stages.sweeps.effects import (
    find_best,
    find_effects,
    find_interaction,
    list_levels,
    share_variance,
)
from stages.sweeps.jobs import (
    FINISHED,
    Job,
    claim_gpu,
    enter_jobs,
    find_varied,
    read_jobs,
    record_job,
)
from stages.sweeps.page import Finding, write_html, write_markdown
from stages.sweeps.searches import Choices, Interval
from stages.sweeps.summary import describe_importance, summarise_sweep


def make_jobs(*rows: tuple[str, float | None]) -> list[Job]:
    return [
        Job(n, tuple(text.split()), str(n), FINISHED, value) for n, (text, value) in enumerate(rows)
    ]


FACTORIAL = make_jobs(("a=1 b=x", 0.1), ("a=1 b=y", 0.2), ("a=2 b=x", 0.5), ("a=2 b=y", 0.6))


def test_main_effects_and_their_share_of_variance():
    effects = find_effects(FACTORIAL)
    assert list(effects) == ["a", "b"]  # what explains most comes first
    assert [(e.level, round(e.mean, 6)) for e in effects["a"]] == [("1", 0.15), ("2", 0.55)]
    assert effects["a"][0].std == pytest.approx(math.sqrt(0.005))
    # around the mean 0.35: total 0.17, between the values of a 4 * 0.04, of b 4 * 0.0025
    assert share_variance(effects["a"]) == pytest.approx(0.16 / 0.17)
    assert share_variance(effects["b"]) == pytest.approx(0.01 / 0.17)


def test_interactions_are_means_of_cells():
    jobs = [*FACTORIAL, *make_jobs(("a=2 b=y c=1", 0.8))]
    assert find_interaction(jobs, "a", "b")["2", "y"] == pytest.approx(0.7)
    assert find_interaction(jobs, "a", "b")["1", "x"] == 0.1


def test_jobs_without_a_value_have_no_effect():
    failed = Job(9, ("a=3", "b=x"), "9", "failed", None)
    assert find_effects([*FACTORIAL, failed]).keys() == {"a", "b"}
    assert [e.level for e in find_effects([*FACTORIAL, failed])["a"]] == ["1", "2"]


def test_a_setting_that_all_jobs_share_is_no_effect():
    assert find_varied(make_jobs(("a=1 b=1", 0.1), ("a=10 b=1", 0.2), ("a=9 b=1", 0.3))) == {
        "a": ["1", "9", "10"]
    }


def test_many_numbers_are_cut_into_ranges_of_equal_weight():
    jobs = make_jobs(*((f"lr={n}e-3", n / 100) for n in range(1, 11)))
    assert list(dict.fromkeys(list_levels(jobs)["lr"])) == [
        "0.001 … 0.002", "0.003 … 0.004", "0.005 … 0.006", "0.007 … 0.008", "0.009 … 0.01"
    ]  # fmt: skip


def test_the_best_has_the_best_mean_over_seeds_and_no_seed():
    jobs = make_jobs(
        ("a=1 seed=0", 0.9), ("a=1 seed=1", 0.1), ("a=2 seed=0", 0.6), ("a=2 seed=1", 0.7)
    )
    overrides, effect = find_best(jobs)
    assert overrides == ("a=2",)
    assert effect.mean == pytest.approx(0.65)
    assert list(find_effects(jobs)) == ["a"]


def test_settings_are_nested_and_numbers_are_numbers():
    nested = nest_settings({"a.b": "1e-4", "a.c": "[1,x]", "+d": "true", "e": "word"})
    assert nested == {"a": {"b": 0.0001, "c": [1, "x"]}, "d": True, "e": "word"}


def test_jobs_keep_their_numbers_and_new_ones_get_the_next(tmp_path):
    first = enter_jobs(tmp_path, [(["a=1"], "x"), (["a=2"], "y")])
    assert record_job(tmp_path / "1", lambda: 0.5) == 0.5
    second = enter_jobs(tmp_path, [(["a=3"], "z"), (["a=2"], "y")])
    assert [job.number for job in (*first, *second)] == [0, 1, 2, 1]
    assert [job.status for job in read_jobs(tmp_path)] == ["started", "finished", "started"]


def test_two_jobs_never_hold_one_gpu(tmp_path):
    with claim_gpu(tmp_path, [3, 5]) as one, claim_gpu(tmp_path, [3, 5]) as other:
        assert {one, other} == {3, 5}
    with claim_gpu(tmp_path, [5]) as again:
        assert again == 5


def test_a_folder_without_jobs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run=DIR"):
        summarise_sweep(tmp_path)


def search(folder, trials=30):
    optuna = pytest.importorskip("optuna")
    from stages.sweeps.optuna_search import OptunaSearch

    found = OptunaSearch(trials, 2, 0, optuna.samplers.RandomSampler)
    found.open({"a": Interval(0, 1, False, False), "b": Choices(("x", "y"))}, folder)
    return found


def test_a_killed_trial_is_proposed_again_and_a_failed_one_is_not(tmp_path):
    killed = search(tmp_path, 4).ask()
    again = search(tmp_path, 4)
    assert again.ask() == killed
    again.tell([None, 0.5])
    last = search(tmp_path, 4)
    assert len(last.ask()) == 2
    last.tell([0.1, 0.2])
    assert last.ask() == []


def test_a_study_of_other_settings_is_refused(tmp_path):
    known = search(tmp_path)
    known.tell([0.5 for _ in known.ask()])
    with pytest.raises(ValueError, match=r"study of other settings \(b\)[\s\S]*hydra.sweep.dir"):
        known.open({"a": Interval(0, 1, False, False)}, tmp_path)


def test_what_matters_is_found_in_the_study(tmp_path):
    optuna_search = pytest.importorskip("stages.sweeps.optuna_search")
    found = search(tmp_path)
    while points := found.ask():
        found.tell([-abs(float(point["a"]) - 0.5) for point in points])
        if len(found.study.trials) == 14:  # too few to say anything
            assert optuna_search.find_importance(tmp_path) == {}
    importance = optuna_search.find_importance(tmp_path)
    assert list(importance) == ["a", "b"]
    assert importance["a"] > 0.8
    assert [finding.title for finding in describe_importance(tmp_path)] == ["Importance"]


def test_the_page_of_a_sweep_escapes_and_embeds():
    finding = Finding("Failed jobs", "Run `a < b`", ("error",), [("<b>",), ("a|b",)])
    page = write_html("sweep <x>", [finding], {"a.png": b"\x89PNG"})
    assert "<title>sweep &lt;x&gt;</title>" in page
    assert "Run <code>a &lt; b</code>" in page
    assert "<td>&lt;b&gt;</td>" in page
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert "| a\\|b |" in write_markdown("sweep", [finding], ["a.png"])
