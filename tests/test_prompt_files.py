"""Prompts travel as one safetensors file with a card, and are applied or learned on from there."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import infer
from fmawsss.clip.encoder import FrozenClip
from fmawsss.clip.weights import open_clip_tokenizer
from fmawsss.contexts import ReleasedContexts
from fmawsss.files.png import read_mask
from fmawsss.files.released_contexts import load_released_context
from fmawsss.files.tensor_files import DESCRIPTION
from fmawsss.tiny.models import tiny_clip


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


def fetch_from(folder: Path, monkeypatch, fetched: list[str]) -> None:
    """Let a folder stand for all repositories of the hub; note which are asked."""

    def fetch(name: str, *_, **__) -> str:
        fetched.append(name)
        return str(folder / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)


def test_seeds_are_the_same(saved: Path, finished: Path, tmp_path, monkeypatch) -> None:
    fetched: list[str] = []
    fetch_from(saved, monkeypatch, fetched)
    places = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}", "learn=all"]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels", "logger=none"]
    sizes = ["dataset.train_images=6", "dataset.val_images=3"]
    for name, ckpt in (
        ("moved", saved / "model.safetensors"),
        ("folder", saved),
        ("hub", "me/prompts"),
        ("own", finished / "outputs/shapes/cls.ckpt"),
    ):
        words = ["task=cls", f"ckpt={ckpt}", f"paths.work={tmp_path}/{name}", "report=none"]
        run(infer.main, monkeypatch, *words, *places, *sizes)
    masks = sorted((tmp_path / "own/seeds").rglob("*.png"))
    assert len(masks) == 6
    for mask, name in product(masks, ("moved", "folder", "hub")):
        other = tmp_path / name / mask.relative_to(tmp_path / "own")
        np.testing.assert_array_equal(read_mask(other), read_mask(mask))
    assert set(fetched) == {"me/prompts"}


def test_contexts_are_read_from_folder_file_and_hub(saved: Path, monkeypatch) -> None:
    expected = load_file(saved / "model.safetensors")["prompts.context"]
    fetched: list[str] = []
    fetch_from(saved, monkeypatch, fetched)
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


@pytest.fixture
def strange(saved: Path, tmp_path: Path) -> Path:
    """The same prompts, said to be learned with another CLIP."""
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()[DESCRIPTION])
    tensors = load_file(saved / "model.safetensors")
    described["recipe"]["weights"] = "0" * 16
    path = tmp_path / "strange" / "model.safetensors"
    path.parent.mkdir()
    save_file(tensors, path, metadata={DESCRIPTION: json.dumps(described)})
    return path


def test_prompts_of_another_clip_are_not_applied(
    strange: Path, finished: Path, tmp_path: Path, monkeypatch
) -> None:
    places = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}/outputs", "learn=all"]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels", "logger=none"]
    sizes = ["dataset.train_images=6", "dataset.val_images=3"]
    with pytest.raises(ValueError, match=r"learned with another CLIP.*digest 0{16}.*clip="):
        run(infer.main, monkeypatch, "task=cls", f"ckpt={strange}", *places, *sizes)
    assert not list(tmp_path.glob("outputs/**/*.png"))


def test_a_start_from_prompts_of_another_clip_is_told_once(
    saved: Path, strange: Path, caplog
) -> None:
    clip = FrozenClip(tiny_clip(), (0.5,) * 3, (0.5,) * 3, open_clip_tokenizer("ViT-B-16"))
    expected = ReleasedContexts(str(saved))(clip, 1)
    assert not caplog.text
    assert torch.equal(ReleasedContexts(str(strange))(clip, 1), expected)
    assert caplog.text.count("learned with another CLIP") == 1


def test_a_repository_that_cannot_be_fetched_is_told(finished: Path, tmp_path, monkeypatch) -> None:
    def refuse(*_, **__) -> str:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    words = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}", "ckpt=me/prompts"]
    words += ["dataset.train_images=6", "dataset.val_images=3"]
    words.append(f"data.superpixels={finished}/outputs/shapes/superpixels")
    with pytest.raises(FileNotFoundError, match=r"me/prompts is no folder .*cannot be fetched"):
        run(infer.main, monkeypatch, "task=cls", "learn=all", *words)
