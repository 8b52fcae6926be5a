"""Steps that follow the number of photos, and experiments that are made of such stages."""

from __future__ import annotations

import pytest
from front_door import compose_config, run
from test_large_photos import photos, settings  # noqa: F401

import train
from stages.config import list_nodes
from stages.schedule import choose_steps


@pytest.mark.parametrize(("images", "steps"), [(3, 200), (480, 600), (100000, 1800)])
def test_steps_are_passes_over_the_photos_within_bounds(images: int, steps: int) -> None:
    cfg = compose_config("train", "task=cls", "dataset=folder", "dataset.root=photos")
    node = list_nodes(cfg)["stage"]
    choose_steps(node, lambda split: images)
    assert node.training.loop.max_steps == steps
    assert node.learning.scheduler.total == steps
    assert node.learning.scheduler.warmup == min(steps // 10, 500)
    assert 0 < node.runtime.save_every <= steps


def test_steps_that_are_typed_stay(photos, tmp_path, monkeypatch, capsys):  # noqa: F811
    there = [*settings(photos, tmp_path / "o"), "data.superpixels=null", "writers.seeds.kind=cam"]
    there += ["scored=cam", "loop.precision=32-true", "data.batch_size=2"]
    passes = [f"runtime.passes.{key}={value}" for key, value in
              {"over_images": 2, "least": 1, "most": 9}.items()]  # fmt: skip
    passes = [f"stage.{word}" for word in passes]
    run(train.main, monkeypatch, "task=cls", *there, *passes)
    assert "passes over" not in capsys.readouterr().out  # there is nothing to learn
    there += ["learn=all", "overwrite=true"]
    run(train.main, monkeypatch, "task=cls", *there, *passes)
    assert "cls: 3 steps, 2 passes over 3 images" in capsys.readouterr().out
    run(train.main, monkeypatch, "task=cls", *there, "loop.max_steps=1")
    assert "passes over" not in capsys.readouterr().out


def test_open_steps_need_passes() -> None:
    node = list_nodes(compose_config("train", "task=cls", "loop.max_steps=null"))["stage"]
    with pytest.raises(ValueError, match=r"loop\.max_steps has no value"):
        choose_steps(node, lambda split: 1)
