"""CAMs and superpixels of others are judged against images and labels before seeds are made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trees import draw_image, write_jpeg
from front_door import run
from superpixel_tools import make_superpixels

import infer
from fmawsss.files.png import read_mask
from fmawsss.files.storage import write_superpixels

SIZE, GRID = (24, 40), (3, 5)
CAM = np.random.default_rng(0).random((1, *GRID), np.float32)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    """Two photos of one class each, with their CAMs."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate("ab"):
        write_jpeg(tmp_path / f"photos/{name}.jpg", draw_image(index, SIZE))
    (tmp_path / "labels.csv").write_text("name,labels\na,cat\nb,dog\n")
    (tmp_path / "cams").mkdir()
    np.savez(tmp_path / "cams/a.npz", cam=CAM, classes=np.array([0]))
    np.savez(tmp_path / "cams/b.npz", cam=CAM, classes=np.array([1]))
    return tmp_path


def seed(monkeypatch, *words: str) -> None:
    run(
        infer.main, monkeypatch,
        "task=seeds", "cams=cams", "affinity=none", "writers.seeds.kind=cam", "scored=cam",
        "dataset=folder", "dataset.root=photos", "dataset/labels=file",
        "dataset.labels.path=labels.csv", "paths.outputs=out", "logger=none", "report=none",
        "data.workers=0", *(words or ["data.superpixels=null"]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"cam": CAM, "classes": [1]}, ""),
        ({"cam": CAM, "fg_cls": [0]}, "not among the labels, in 1 of 2 images.*: b"),
        ({"cam": CAM[:0], "classes": np.zeros(0, int)}, "lack classes .* labels, in 1 of 2.*: b"),
        ({"cam": CAM.transpose(0, 2, 1), "classes": [1]}, "lie across .* in 1 of 2 .*: b; .*EXIF"),
        ({"cam": np.ones((1, 4, 4)), "classes": [1]}, ""),
    ],
    ids=["fitting", "other class", "no class", "turned", "square"],
)
def test_cams_that_fit_badly_are_told(photos: Path, monkeypatch, capsys, arrays, told) -> None:
    np.savez(photos / "cams/b.npz", **arrays)
    seed(monkeypatch)
    shown = " ".join(capsys.readouterr().out.split())
    assert ("the CAMs in" in shown) == bool(told)
    assert re.search(told, shown)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"cam": CAM, "fg_cls": [1], "classes": [0]}, "`classes` and `fg_cls` that differ"),
        ({"cam": CAM * np.inf, "classes": [1]}, "no numbers"),
        ({"cam": np.ones((2, *GRID)), "classes": [1, 1]}, "each once"),
    ],
    ids=["two lists", "infinity", "twice"],
)
def test_bad_cams_are_refused_before_a_seed_is_made(
    photos: Path, monkeypatch, arrays: dict[str, Any], said: str
) -> None:
    """What was made before stays as it is."""
    seed(monkeypatch)
    made = photos / "out/folder/seeds/from_cams/a.png"
    before = made.stat().st_mtime_ns
    np.savez(photos / "cams/b.npz", **arrays)
    with pytest.raises(ValueError, match=rf"b\.npz.*{said}"):
        seed(monkeypatch, "data.superpixels=null", "overwrite=true")
    assert made.stat().st_mtime_ns == before


def test_superpixels_of_another_image_are_refused_before_a_seed_is_made(
    photos: Path, monkeypatch
) -> None:
    for name, size in (("a", SIZE), ("b", SIZE[::-1])):
        superpixels = make_superpixels(torch.rand(2, *size) > 0.4, torch.arange(2))
        write_superpixels(photos / f"spx/{name}.npz", superpixels, "f")
    with pytest.raises(ValueError, match=r"spx/b\.npz are of size \(40, 24\), the image is"):
        seed(monkeypatch, "data.superpixels=spx", "writers.seeds.kind=sams")
    assert not (photos / "out/folder/seeds/from_cams").exists()


def save_as(method: str, path: Path, index: int) -> None:
    """Save a CAM of one class, as another method does."""
    maps, keys = torch.from_numpy(CAM), torch.tensor([index])
    saved: dict[Any, Any] = {
        "irn": {"keys": keys, "cam": maps[:, ::2, ::2], "high_res": maps.numpy()},
        "clip_es": {"keys": keys.numpy(), "attn_highres": maps.half().numpy()},
        "seam": {index: maps[0].numpy()},
        "wrong": {"keys": keys.numpy() + 1, "attn_highres": maps.numpy()},
    }[method]
    np.save(path, saved)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("irn", "CAMs of another method (`high_res`, IRN, AdvCAM), in 2 files"),
        ("clip_es", "CAMs of another method (`attn_highres`, CLIP-ES, refined), in 2 files"),
        ("seam", "CAMs of another method (SEAM), in 2 files"),
        ("wrong", "not among the labels, in 2 of 2 images"),
    ],
)
def test_cams_of_other_methods_make_the_same_seeds(
    photos: Path, monkeypatch, capsys, method: str, told: str
) -> None:
    seed(monkeypatch)
    made = {name: (photos / f"out/folder/seeds/from_cams/{name}.png").read_bytes() for name in "ab"}
    for index, name in enumerate("ab"):
        (photos / f"cams/{name}.npz").unlink()
        save_as(method, photos / f"cams/{name}.npy", index)
    capsys.readouterr()
    if method == "wrong":  # there is no third class
        with pytest.raises((ValueError, IndexError)):
            seed(monkeypatch, "data.superpixels=null", "overwrite=true")
    else:
        seed(monkeypatch, "data.superpixels=null", "overwrite=true")
        for name, before in made.items():
            assert (photos / f"out/folder/seeds/from_cams/{name}.png").read_bytes() == before
    assert told in " ".join(capsys.readouterr().out.split())


def test_images_without_labels_need_no_cams(photos: Path, monkeypatch, capsys) -> None:
    (photos / "labels.csv").write_text("name,labels\na,cat\nb,\n")
    (photos / "cams/b.npz").unlink()
    seed(monkeypatch, "data.superpixels=null", "dataset.classes=[cat,dog]")
    assert "1 images show no class and need no CAMs: b" in capsys.readouterr().out
    assert not read_mask(photos / "out/folder/seeds/from_cams/b.png").any()
    assert read_mask(photos / "out/folder/seeds/from_cams/a.png").any()


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"keys": np.array([0]), "maps": CAM}, "holds keys, maps, expected `keys` and one of"),
        ({"keys": np.array([0, 1]), "cam": CAM}, "expected one map (h, w) for each of 2 classes"),
        ({"keys": np.array([0]), "cam": CAM * np.nan}, "no numbers (NaN or infinity)"),
        ({0: CAM[0], 1: CAM[0, :2]}, "maps of several sizes"),
        ([CAM], "is no dictionary of arrays"),
    ],
)
def test_other_dictionaries_are_refused(photos: Path, monkeypatch, saved: Any, told: str) -> None:
    (photos / "cams/b.npz").unlink()
    np.save(photos / "cams/b.npy", saved)
    with pytest.raises(ValueError, match=rf"b\.npy.*{re.escape(told)}"):
        seed(monkeypatch)
    assert not (photos / "out/folder/seeds/from_cams").exists()
