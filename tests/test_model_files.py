"""A network travels as one safetensors file with a card, to any folder and to a hub."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import run
from safetensors.torch import load_file, save_file

import infer
from fmawsss.files.png import read_mask
from fmawsss.networks.checkpoints import describe_classes, read_checkpoint
from fmawsss.networks.segmenter import Segmenter

CLASSES = ["cat | `dog`", "größe <b>"]


@pytest.fixture(scope="module")
def saved(finished: Path, tmp_path_factory) -> Path:
    """The folder of a model, written by the door."""
    folder = tmp_path_factory.mktemp("model")
    places = [f"paths.data={finished}/data", f"paths.outputs={finished}/outputs"]
    places.append(f"hydra.run.dir={folder}/run")
    with pytest.MonkeyPatch.context() as patch:
        words = ["task=export", "format=model", f"job.path={folder}/model"]
        run(infer.main, patch, *words, *places)
    return folder / "model"


def test_it_answers_as_its_checkpoint(saved: Path, finished: Path) -> None:
    photo = sorted((finished / "data").glob("*/JPEGImages/*.jpg"))[0]
    own = Segmenter.from_checkpoint(finished / "outputs/shapes/network.ckpt").predict([photo])[0]
    (moved,) = Segmenter.from_pretrained(saved).predict([photo])
    np.testing.assert_array_equal(moved.mask, own.mask)
    np.testing.assert_array_equal(moved.confidence, own.confidence)
    assert moved.classes == own.classes
    np.testing.assert_array_equal(moved.palette, own.palette)


def test_the_card_says_how_it_was_made(saved: Path, finished: Path) -> None:
    card = (saved / "README.md").read_text()
    for told in (
        "| seeds | `fine_memory` |",
        "| steps | `3` |",
        "| 1 | `circle` |",
        "from_pretrained",
    ):
        assert told in card
    scores = json.loads((finished / "outputs/shapes/scores.json").read_text())
    assert f"| {100 * scores['network']['val']['network']['miou']:.1f} |" in card
    assert str(finished) not in card + (saved / "model.safetensors").read_bytes().decode("latin1")


def test_the_door_applies_it(saved: Path, finished: Path, tmp_path, monkeypatch) -> None:
    photo = sorted((finished / "data").glob("*/JPEGImages/*.jpg"))[0]
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos/a.jpg")
    places = [f"dataset.root={tmp_path}/photos", f"paths.outputs={tmp_path}/out"]
    words = ["task=network", "dataset=folder", "logger=none", "report=none", *places]
    run(infer.main, monkeypatch, f"ckpt={saved}/model.safetensors", *words)
    (mask,) = {*(tmp_path / "out/folder/masks").rglob("a.png")}
    segmenter = Segmenter.from_pretrained(saved)
    expected = segmenter.predict([tmp_path / "photos/a.jpg"])[0].mask

    np.testing.assert_array_equal(read_mask(mask), expected)


def save_checkpoint(path: Path) -> None:
    """A network of one convolution with names that a page must not take for its own."""
    carried = {
        "network": {"_target_": "mine.Net"},
        "resize": {"_target_": "fmawsss.resizing.KeepSize"},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    network = torch.nn.Conv2d(3, 3, 1)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({**describe_classes(CLASSES), "carried": carried, "state_dict": state}, path)


def build(classes: int) -> torch.nn.Module:
    return torch.nn.Conv2d(3, classes, 1)


def test_a_network_of_ones_own_with_any_names(tmp_path) -> None:
    save_checkpoint(tmp_path / "network.ckpt")
    segmenter = Segmenter.from_checkpoint(tmp_path / "network.ckpt", build=build)
    segmenter.save(tmp_path / "model")
    again = Segmenter.from_pretrained(tmp_path / "model/model.safetensors", build=build)
    picture = np.zeros((4, 5, 3), np.uint8)
    assert again.classes == ("background", *CLASSES)
    np.testing.assert_array_equal(
        again.predict([picture])[0].mask, segmenter.predict([picture])[0].mask
    )
    card = (tmp_path / "model/README.md").read_text()
    assert "`cat \\| 'dog'`" in card
    assert "none noted" in card
    with pytest.raises(ValueError, match="a file never chooses code to run"):
        Segmenter.from_pretrained(tmp_path / "model")


def test_it_is_pushed_to_a_hub(tmp_path, monkeypatch) -> None:
    save_checkpoint(tmp_path / "network.ckpt")
    calls = []

    class Hub:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> str:
            calls.append((name, private, exist_ok))
            return f"https://hub/{name}"

        def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list) -> None:
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    segmenter = Segmenter.from_checkpoint(tmp_path / "network.ckpt", build=build)
    assert segmenter.push_to_hub("me/shapes") == "https://hub/me/shapes"
    assert calls == [("me/shapes", True, True)]

    # and fetched from there
    fetched = tmp_path / "hub/me/shapes/model.safetensors"
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(fetched))
    assert Segmenter.from_pretrained("me/shapes", build=build).classes[1:] == tuple(CLASSES)


def test_what_is_not_there_is_named(tmp_path, monkeypatch) -> None:
    def refuse(*_, **__) -> None:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(FileNotFoundError, match=r"https://huggingface\.co/me/none .*Connection"):
        Segmenter.from_pretrained("me/none")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        Segmenter.from_pretrained(tmp_path)
    save_checkpoint(tmp_path / "network.ckpt")
    segmenter = Segmenter.from_checkpoint(tmp_path / "network.ckpt", build=build)
    segmenter = replace(segmenter, checkpoint=None)
    with pytest.raises(ValueError, match="was put together by hand"):
        segmenter.save(tmp_path)


@pytest.mark.parametrize("fault", ["cut", "bare", "text", "weights"])
def test_broken_files_are_refused(saved: Path, tmp_path, fault: str) -> None:
    path = tmp_path / "model.safetensors"
    data = (saved / "model.safetensors").read_bytes()
    if fault == "cut":
        path.write_bytes(data[: len(data) // 2])
    if fault == "text":
        path.write_bytes(b"version https://git-lfs")
    if fault == "bare":
        save_file(load_file(saved / "model.safetensors"), path)
    if fault == "weights":
        described = {"fmawsss": json.dumps(read_checkpoint(saved / "model.safetensors").described)}
        save_file({"network.a": torch.zeros(2)}, path, metadata=described)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        Segmenter.from_pretrained(tmp_path)
