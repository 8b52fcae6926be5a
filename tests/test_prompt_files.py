"""Prompts travel as one safetensors file with a card, and are applied or learned on from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import run
from safetensors.torch import load_file

import infer
from fmawsss.files.png import read_mask
from fmawsss.files.released_contexts import load_released_context


@pytest.fixture(scope="module")
def saved(finished: Path, tmp_path_factory) -> Path:
    """The folder of prompts, written by the door."""
    folder = tmp_path_factory.mktemp("prompts") / "mine"
    places = [f"paths.data={finished}/data", f"paths.outputs={finished}/outputs"]
    places.append(f"hydra.run.dir={folder}_run")  # the finished pipeline keeps its one run
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, "task=export", "format=prompts", f"job.path={folder}", *places)
    return folder


def test_the_card_says_what_they_are(saved: Path, finished: Path) -> None:
    card = (saved / "README.md").read_text()
    for told in ("`circle`", "`model.clip.clip._target_`", "`weights`", "1 x 4 x 128"):
        assert told in card
    assert str(finished) not in card


def test_seeds_are_the_same(saved: Path, finished: Path, tmp_path, monkeypatch) -> None:
    places = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}", "learn=all"]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels", "logger=none"]
    sizes = ["dataset.train_images=6", "dataset.val_images=3"]
    for name, ckpt in (
        ("moved", saved / "model.safetensors"),
        ("own", finished / "outputs/shapes/cls.ckpt"),
    ):
        words = ["task=cls", f"ckpt={ckpt}", f"paths.work={tmp_path}/{name}", "report=none"]
        run(infer.main, monkeypatch, *words, *places, *sizes)
    masks = sorted((tmp_path / "own/seeds").rglob("*.png"))
    assert len(masks) == 6
    for mask in masks:
        other = tmp_path / "moved" / mask.relative_to(tmp_path / "own")
        np.testing.assert_array_equal(read_mask(other), read_mask(mask))


def test_contexts_are_read_from_folder_file_and_hub(saved: Path, monkeypatch) -> None:
    expected = load_file(saved / "model.safetensors")["prompts.context"]
    fetched: list[str] = []

    def fetch(name: str, *_, **__) -> str:
        fetched.append(name)
        return str(saved / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    for place in (saved, saved / "model.safetensors", "me/prompts"):
        assert torch.equal(load_released_context(place), expected)
    assert fetched == ["me/prompts"]


def test_what_holds_no_prompts_is_refused(finished: Path, tmp_path, monkeypatch) -> None:
    words = ["task=export", "format=prompts", f"paths.outputs={finished}/outputs"]
    words += [f"job.path={tmp_path}/none", f"hydra.run.dir={tmp_path}/run"]
    network = finished / "outputs/shapes/network.ckpt"
    with pytest.raises(ValueError, match="holds no learned prompts of ours"):
        run(infer.main, monkeypatch, *words, f"job.prompts={network}")
    with pytest.raises(FileNotFoundError, match=r"absent.*job\.prompts=FILE"):
        run(infer.main, monkeypatch, *words, "job.prompts=absent.ckpt")
    assert not (tmp_path / "none").exists()
