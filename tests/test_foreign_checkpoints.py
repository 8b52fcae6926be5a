"""Checkpoints that somebody else made: nothing in them is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from network_tools import apply_network, draw_photos, learn_few

from fmawsss.networks.checkpoints import read_checkpoint
from fmawsss.networks.segmenter import Segmenter
from fmawsss.tiny.shapes import CLASS_NAMES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The outputs of a network that learned from true masks for a few steps."""
    return learn_few(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Path:
    return trained / "shapes" / "network.ckpt"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")


STRANGERS = [
    "os.system",
    "eval",
    "torch.load",
    "fmawsss.files.json_files.write_bytes",
    "fmawsss.files.downloads.fetch_file",
]
STRANGERS += [
    "fmawsss.files.products.shutil.rmtree",
    "fmawsss.files.storage.Path",
    "fmawsss.files.features.FeatureStore",
    "fmawsss.no.X",
]


@pytest.mark.parametrize("target", STRANGERS)
def test_a_checkpoint_runs_nothing(
    target: Any, checkpoint, tmp_path, trained, photos, monkeypatch
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["carried"]["network"]["clip"] = {
        "_target_": target,
        "_args_": ["touch /tmp/evil"],
    }
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="the checkpoint names"):
        Segmenter.from_checkpoint(tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="the checkpoint names"):
        apply_network(monkeypatch, trained, tmp_path / "out", photos, f"ckpt={tmp_path}/evil.ckpt")


CALL = {"_target_": "os.mkdir", "_args_": ["made"]}


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("carried", {"writers": {"more": CALL}}),
        ("carried", {"resize": (CALL,)}),
        ("carried", {"paths": {"work": "elsewhere"}}),
        ("carried", {"image_mean": torch.zeros(3)}),
        ("classes", [CALL] * len(CLASS_NAMES)),
    ],
)
def test_no_corner_of_a_checkpoint_runs(
    where: str, what, checkpoint, tmp_path, trained, photos, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content[where] = {**content["carried"], **what} if where == "carried" else what
    torch.save(content, tmp_path / "evil.ckpt")
    refused = r"the checkpoint (names|wants)|no plain data|classes are no list of names"
    with pytest.raises(ValueError, match=refused):
        read_checkpoint(tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=refused):
        apply_network(monkeypatch, trained, tmp_path / "out", photos, f"ckpt={tmp_path}/evil.ckpt")
    assert not (tmp_path / "made").exists()


def test_code_in_a_checkpoint_is_not_run(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save(
        {"classes": Evil(), "palette": [], "carried": {}, "state_dict": {}}, tmp_path / "evil.ckpt"
    )
    with pytest.raises(ValueError, match=r"evil\.ckpt cannot be read .*other things than tensors"):
        Segmenter.from_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()
