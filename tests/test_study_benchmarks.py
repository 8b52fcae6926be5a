"""Studies of hours, tried in seconds: what their rows choose is there, and their parts fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from front_door import compose_config

from benchmarks import affinities, targets


@pytest.mark.parametrize("name", targets.NETWORKS)
def test_rows_of_targets_are_options(name: str) -> None:
    kind, words = targets.NETWORKS[name]
    stage = compose_config("train", "task=network", f"seeds={kind}", *words).stage
    chosen = dict(word.split("=") for word in words)
    if "targets" in chosen:
        expected = compose_config("train", "task=network", f"targets={chosen['targets']}")
        assert stage.learning.targets._target_ == expected.stage.learning.targets._target_
    assert stage.training.inputs.seeds == kind


def test_targets_learn_from_the_seeds_of_their_row(tmp_path: Path, monkeypatch) -> None:
    """Each command as it would run, with the scores that it would write."""
    commands = []

    def note(door: str, *words: str) -> None:
        commands.append([door, *words])
        work = next((Path(word[11:]) for word in words if word.startswith("paths.work=")), tmp_path)
        work.mkdir(parents=True, exist_ok=True)
        scores = {"network": {"val": {"network": {"miou": 0.5}}}}
        (work / "scores.json").write_text(json.dumps(scores))

    monkeypatch.setattr(targets, "run", note)
    own = ["dataset.draw_seed=7", f"paths.outputs={tmp_path}"]
    seeds = targets.make_seeds(7, tmp_path, own)
    assert {*seeds} == {kind for kind, _ in targets.NETWORKS.values()}
    assert targets.learn(3, seeds["bare"], tmp_path / "out", ["targets=covered"], own) == 0.5
    for door, *words in commands:
        compose_config(door, *words)
    bare = [words for words in commands if "seeding.sams.fill=null" in words]
    assert len(bare) == 1
    assert f"regions={tmp_path}/bare/regions/fine" in commands[3]
    assert f"seeds={tmp_path}/bare/seeds/fine_memory" in commands[4]


@pytest.mark.parametrize("name", affinities.VARIANTS)
def test_rows_of_affinities_are_options(name: str) -> None:
    applied, remembered = affinities.VARIANTS[name]
    for words in affinities.PROMPTS.values():
        compose_config("infer", *words, "callbacks=regions", *applied)
    compose_config("infer", "task=memory", *remembered)


def test_the_small_sam_3_is_loaded_as_the_published_one(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("transformers", minversion="5.0")
    from benchmarks import small_sam3
    from fmawsss.text_prompted.sam3 import load_sam3
    from fmawsss.tiny.shapes import CLASS_NAMES

    monkeypatch.setattr(small_sam3, "BATCH", 2)
    monkeypatch.setattr("sys.argv", ["small_sam3", f"{tmp_path}/sam3", "--steps", "2"])
    small_sam3.main()
    source = load_sam3(tmp_path / "sam3", 0.3)
    image = torch.zeros(90, 120, 3, dtype=torch.uint8).numpy()
    found = source.find(image, CLASS_NAMES)
    assert [each.semantic.isfinite().all() for each in found] == [True] * len(CLASS_NAMES)
    assert len({each.semantic.sum().item() for each in found}) > 1
