"""`task=dashboard` lays out what runs log: every panel shows something that a run has."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import wandb
from front_door import run

import infer
from stages.dashboards import store_in_wandb
from stages.jobs.dashboard import CURVES, PICTURES, SCORES, build_layout

# of the library, when it is imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
LOGGED = {
    *("train/loss", "train/lr", "train/gradient_norm", "train/images_per_second"),
    *("train/memory_gb", "val/miou", "val/miou_power_5", "val/miou_power_10"),
    *("panels", "pictures", "images/worst", "images/most_uncertain"),
}  # as tests/test_loggers.py reads from runs


def test_the_layout_shows_what_runs_log() -> None:
    shown = [key for group in (CURVES, PICTURES) for keys in group.values() for key in keys]
    assert set(shown) == LOGGED
    text = build_layout("me", "mine", "view")._to_model().model_dump_json()
    for key in (*shown, *(key for keys in SCORES.values() for key in keys)):
        assert key in text
    sections = json.loads(text)["spec"]["section"]["panel_bank_config"]["sections"]
    assert [part["name"] for part in sections] == ["final scores", "learning", "pictures"]


def dash(monkeypatch, tmp_path, *words: str) -> None:
    run(infer.main, monkeypatch, "task=dashboard", f"paths.outputs={tmp_path}", *words)


def test_the_door_saves_it(tmp_path, monkeypatch, capsys) -> None:
    saved = SimpleNamespace(save=lambda: None, url="https://somewhere/view")
    asked = []
    monkeypatch.setattr(
        "stages.jobs.dashboard.build_layout", lambda *given: asked.append(given) or saved
    )
    dash(monkeypatch, tmp_path, "job.entity=me", "job.project=mine")
    assert asked == [("me", "mine", "fmawsss")]
    assert "https://somewhere/view" in capsys.readouterr().out


def test_what_is_missing_is_said(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"job\.entity has no value"):
        dash(monkeypatch, tmp_path)

    def refuse() -> None:
        raise ConnectionError("no network")

    with monkeypatch.context() as patch:
        patch.setattr("stages.jobs.dashboard.build_layout", lambda *_: SimpleNamespace(save=refuse))
        with pytest.raises(ValueError, match=r"no view was saved in me/fmawsss \(no network\)"):
            dash(patch, tmp_path, "job.entity=me")
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(ValueError, match=r"needs the package wandb-workspaces"):
        dash(monkeypatch, tmp_path, "job.entity=me")


@pytest.mark.parametrize("limit", [0.001, 100])
def test_large_products_are_referred_to(limit, tmp_path, monkeypatch):
    stored = []
    monkeypatch.setattr(wandb.Artifact, "add_reference", lambda *_, **__: stored.append("referred"))
    monkeypatch.setattr(wandb.Artifact, "add_dir", lambda *_, **__: stored.append("stored"))
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds/a.png").write_bytes(bytes(2000))
    result = SimpleNamespace(
        list_sources=dict, list_products=lambda: [tmp_path / "seeds"], config={}
    )
    run = SimpleNamespace(
        config=SimpleNamespace(update=lambda *_, **__: None), offline=True,
        log_artifact=lambda artifact, aliases: stored.append(artifact.type),
    )  # fmt: skip
    store_in_wandb(run, result, limit)
    assert stored == [{0.001: "referred", 100: "stored"}[limit], "dataset"]
