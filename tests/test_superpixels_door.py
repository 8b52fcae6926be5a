"""`python infer.py task=superpixels`: shares, broken files, settings, pictures, summary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from front_door import compose_config, run
from hydra.errors import InstantiationException

import infer
import train
from callbacks import progress
from fmawsss.files.products import ProductMismatch
from fmawsss.files.storage import read_superpixels
from fmawsss.superpixels import decode_masks

QUICK = [
    "task=superpixels",
    "dataset.train_images=5",
    "dataset.val_images=2",
    "masks.points_per_side=3",
]
QUICK.append("writers.pictures.every=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a drawn data set and the superpixels of all its training images."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, *QUICK, *places(folder))
    return folder


def places(folder: Path, data: Path | None = None) -> list[str]:
    return [f"paths.data={data or folder}/data", f"paths.outputs={folder}/outputs"]


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted((folder / "outputs/shapes/superpixels").iterdir())
    }


def is_complete(folder: Path) -> bool:
    record = json.loads((folder / "outputs/shapes/superpixels.json").read_text())
    return record["parts"]["train"]["complete"]


def test_shards_together_make_the_product(whole, tmp_path, monkeypatch):
    expected, done = read_files(whole), []
    for shard, names in (
        ("2/3", ["00001", "00004"]),
        ("3/3", ["00002"]),
        ("1/3", ["00000", "00003"]),
    ):
        assert not done or not is_complete(tmp_path)
        run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole), f"shard={shard}")
        done += [f"train_{name}.npz" for name in names]
        assert sorted(done) == sorted(read_files(tmp_path))
    assert is_complete(tmp_path)
    assert read_files(tmp_path) == expected


def test_a_shard_makes_again_what_is_missing_or_broken_of_its_own(whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "outputs", tmp_path / "outputs")
    made = tmp_path / "outputs/shapes/superpixels"
    (made / "train_00002.npz").write_bytes(b"PK broken")
    (made / "train_00003.npz").unlink()
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole), "shard=1/2")
    assert not (made / "train_00003.npz").exists()
    read_superpixels(made / "train_00002.npz")
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole))
    assert read_files(tmp_path) == read_files(whole)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b"])
def test_a_shard_that_does_not_exist_is_refused(whole, monkeypatch, shard):
    with pytest.raises(ValueError, match=f"shard={shard}: expected number/count"):
        run(infer.main, monkeypatch, *QUICK, *places(whole), f"shard={shard}")


def test_a_shard_does_not_overwrite_and_a_pipeline_has_none(whole, monkeypatch):
    before = read_files(whole)
    with pytest.raises(ValueError, match="would remove what other shards made"):
        run(infer.main, monkeypatch, *QUICK, *places(whole), "shard=1/2", "overwrite=true")
    with pytest.raises(ValueError, match="shard belongs to one stage"):
        run(train.main, monkeypatch, "shard=1/2", *places(whole))
    assert read_files(whole) == before


def test_other_masks_are_refused_and_other_speeds_are_not(whole, monkeypatch):
    with pytest.raises(ProductMismatch, match=r"recall_threshold: 0\.5 -> 0\.3"):
        run(infer.main, monkeypatch, *QUICK, *places(whole), "masks.recall_threshold=0.3")
    run(infer.main, monkeypatch, *QUICK, *places(whole), "speed=gpu")


def test_the_trainer_chooses_the_speed_and_no_precision(whole, tmp_path, monkeypatch):
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole), "trainer.precision=bf16-mixed")
    made, expected = (folder / "outputs/shapes/superpixels" for folder in (tmp_path, whole))
    for path in expected.iterdir():
        one, other = vars(read_superpixels(path)), vars(read_superpixels(made / path.name))
        assert all(torch.equal(one[key], other[key]) for key in list(one)[1:])
    speeds = {name: read_speed(f"trainer={name}") for name in ("cpu", "gpu", "ddp")}
    assert speeds["cpu"][0].crops_per_batch == 1
    assert speeds["gpu"] == speeds["ddp"] == read_speed("speed=gpu")


def read_speed(option: str) -> tuple[Any, ...]:
    """Return all that an option of `speed` says: numbers, images at once, the encoder."""
    stage = compose_config("infer", "task=superpixels", option).stage
    return stage.runtime.arguments.speed, stage.runtime.batch_size, stage.applying.encoder


def decode(record):
    return decode_masks(record.counts, record.offsets, record.size).flatten(1).float()


@pytest.mark.parametrize("speed", ["half", pytest.param("compiled", marks=pytest.mark.slow)])
def test_faster_encoders_find_nearly_the_same_masks(speed, whole, tmp_path, monkeypatch):
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole), f"speed={speed}")
    made, expected = (folder / "outputs/shapes/superpixels" for folder in (tmp_path, whole))
    for path in made.iterdir():
        found, masks = (decode(read_superpixels(folder / path.name)) for folder in (made, expected))
        shared = found @ masks.T
        ious = shared / (found.sum(1)[:, None] + masks.sum(1) - shared)
        assert abs(len(found) - len(masks)) <= 1
        assert ious.amax(1).median() > 0.95


def test_the_summary_counts_what_was_there_before(whole, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole / "outputs", tmp_path / "outputs")
    (tmp_path / "outputs/shapes/superpixels/train_00003.npz").unlink()
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole))
    masks = sum(
        len(read_superpixels(path)) for path in (whole / "outputs/shapes/superpixels").iterdir()
    )
    assert f"5 images cut into {masks} masks" in capsys.readouterr().out


def test_pictures_progress_and_summary(whole, tmp_path, monkeypatch, capsys):
    pictures = whole / "outputs/shapes/pictures/superpixels"
    assert [path.stem for path in sorted(pictures.glob("*.png"))] == [
        "train_00000",
        "train_00002",
        "train_00004",
    ]
    monkeypatch.setattr(progress, "QUIET", 0)
    monkeypatch.setattr(progress, "SOON", 0)
    run(
        infer.main,
        monkeypatch,
        *QUICK,
        *places(tmp_path, whole),
        "masks.pred_iou_thresh=1",
        "masks.stability_score_thresh=1",
    )
    told = capsys.readouterr().out
    assert "superpixels: apply 4 of 5 (80%), 0:0" in told
    assert "5 images cut into 0 masks (none), " in told
    assert "5 images without any mask, e.g. train_00000" in told


def test_classic_superpixels_need_no_model(whole, tmp_path, monkeypatch):
    run(infer.main, monkeypatch, *QUICK, *places(tmp_path, whole), "sam=superpixels_classic")
    found = read_superpixels(tmp_path / "outputs/shapes/superpixels/train_00001.npz")
    assert int(found.area.sum()) == 112 * 112
    assert len(found) > 3


def test_missing_sam2_weights_say_url_and_place(whole, tmp_path, monkeypatch):
    overrides = [
        *QUICK,
        *places(tmp_path, whole),
        "sam=sam2_l",
        f"paths.weights={tmp_path}/weights",
    ]
    with pytest.raises(
        InstantiationException, match=r"(?s)sam2\.1-hiera-large/config\.json.*https://"
    ):
        run(infer.main, monkeypatch, *overrides)
