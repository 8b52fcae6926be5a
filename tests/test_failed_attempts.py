"""An attempt that fails before it made anything leaves no record; the corrected one just runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from front_door import QUICK, run

import infer
import train
from fmawsss.files.locks import hold_lock, place_lock
from lightning_modules.superpixels import SuperpixelModule


def places(finished: Path, work: Path) -> list[str]:
    superpixels = f"data.superpixels={finished}/outputs/shapes/superpixels"
    return [*QUICK[:2], f"paths.work={work}", "logger=none", "report=none", superpixels]


def test_seeds_that_failed_are_made_with_other_settings(finished, tmp_path, monkeypatch):
    cams, work = tmp_path / "foreign", tmp_path / "work"
    cams.mkdir()
    for number in range(6):
        maps = np.random.default_rng(number).random((1, 7, 7)).astype(np.float32)
        np.savez(cams / f"train_{number:05d}.npz", cam=maps, classes=np.array([1]))
    words = ["task=seeds", f"cams={cams}", f"paths.data={finished}/data", *places(finished, work)]
    with pytest.raises(ValueError, match="affinity=none"):
        run(infer.main, monkeypatch, *words)
    assert not (work / "seeds/from_cams.json").exists()
    run(infer.main, monkeypatch, *words, "affinity=none")
    assert len(list((work / "seeds/from_cams").glob("*.png"))) == 6


def test_a_training_that_failed_starts_with_other_settings(finished, tmp_path, monkeypatch):
    data, work = tmp_path / "data", tmp_path / "work"
    shutil.copytree(finished / "data", data)
    broken = data / "shapes-0/JPEGImages/train_00001.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:500])
    words = ["task=cls", f"paths.data={data}", *places(finished, work), "loop.max_steps=1"]
    with pytest.raises(ValueError, match="train_00001"):
        run(train.main, monkeypatch, *words, "save_every=1")
    assert not (work / "cls.ckpt.json").exists()
    broken.write_bytes(whole)
    run(train.main, monkeypatch, *words, "save_every=1", "optimizer.lr=0.01")
    assert (work / "cls.ckpt").is_file()


def list_work(work: Path) -> set[str]:
    """List all files and folders of a work folder, without the records of its runs."""
    found = {path.relative_to(work).as_posix() for path in work.rglob("*")}
    return {path for path in found if path.split("/")[0] != "runs"}


@pytest.mark.parametrize("shard", [[], ["shard=1/2"]])
def test_the_first_batch_fails(shard, tmp_path, monkeypatch):
    """Nothing stays but the record of the run, of a shard too, and other settings just run."""
    work = tmp_path / "work"
    words = [*QUICK[:2], f"paths.data={tmp_path}/data", f"paths.work={work}", "logger=none", *shard]
    words += ["task=superpixels", "report=none", "module.generator.points_per_side=4"]

    def fail(module, batch, index=0):
        raise ValueError("the first batch")

    with monkeypatch.context() as patch:
        patch.setattr(SuperpixelModule, "predict_step", fail)
        with pytest.raises(ValueError, match="the first batch"):
            run(infer.main, patch, *words)
    assert list_work(work) == set()
    run(infer.main, monkeypatch, *words[:-1], "module.generator.points_per_side=3")
    assert len(list((work / "superpixels").glob("*.npz"))) == (3 if shard else 6)


def test_a_shard_fails_while_another_works(tmp_path, monkeypatch):
    """It takes the record back, and the other one writes it again with its first image."""
    work = tmp_path / "work"
    words = [*QUICK[:2], f"paths.data={tmp_path}/data", f"paths.work={work}", "logger=none"]
    words += ["task=superpixels", "report=none", "module.generator.points_per_side=4"]
    predict, record = SuperpixelModule.predict_step, work / "superpixels.json"

    def fail(module, batch, index=0):
        raise ValueError("the first batch")

    def wait(module, batch, index=0):
        if index == 0 and not list(work.glob("superpixels/*")):
            record.unlink()  # as the one that fails does
        return predict(module, batch, index)

    # the lock of the other one is there
    lock = place_lock(work / "superpixels", 1)
    lock.parent.mkdir()
    with monkeypatch.context() as patch, hold_lock(lock, work, ""):
        patch.setattr(SuperpixelModule, "predict_step", fail)
        with pytest.raises(ValueError, match="the first batch"):
            run(infer.main, patch, *words, "shard=2/2")
        assert not record.exists()

    # which goes on
    monkeypatch.setattr(SuperpixelModule, "predict_step", wait)
    run(infer.main, monkeypatch, *words, "shard=1/2")
    assert record.is_file()
    run(infer.main, monkeypatch, *words, "shard=2/2")
    assert len(list((work / "superpixels").glob("*.npz"))) == 6


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (infer, ["task=superpixels", "shard=3/2"], "shard=3/2"),
        (train, ["task=cls"], "superpixels are missing"),
        (train, ["task=seg"], "are missing"),
        (train, ["task=network"], "seeds are missing"),
        (train, ["task=memory"], "are missing"),
        (train, ["task=network", "seeds=nowhere"], "seeds are missing"),
        (infer, ["task=cls"], "are missing"),
        (infer, ["task=seeds", "cams=nowhere"], "superpixels are missing"),
        (infer, ["task=network"], "no checkpoint"),
        (infer, ["task=export", "format=onnx"], "no checkpoint"),
        (infer, ["task=report"], "no results to report"),
        (infer, ["task=templates", "save_as=[voc]"], "writes none"),
        (train, ["-m", "task=cls", "loop.max_steps=1,2"], "."),
    ],
)
def test_a_failed_attempt_leaves_nothing_but_its_record(tmp_path, monkeypatch, main, words, said):
    work = tmp_path / "work"
    monkeypatch.chdir(tmp_path)
    places = [*QUICK[:2], f"paths.data={tmp_path}/data", f"paths.work={work}", "logger=none"]
    if words[-1] == "format=onnx" or words == ["task=report"]:
        places = places[2:]
    with pytest.raises(Exception, match=said):
        run(main.main, monkeypatch, *words, *places)
    assert list_work(work) == set()


def test_what_a_kill_left_stands_in_no_way(finished, tmp_path, monkeypatch):
    # a record without anything else: the power went between the record and the first image
    words = ["task=cls", f"paths.data={finished}/data", *places(finished, tmp_path)]
    checkpoint = f"ckpt={finished}/outputs/shapes/cls.ckpt"
    run(infer.main, monkeypatch, *words, checkpoint)
    shutil.rmtree(tmp_path / "seeds/coarse")
    shutil.rmtree(tmp_path / "pictures")
    for path in (tmp_path / "seeds").glob("*.jsonl"):
        path.unlink()
    run(infer.main, monkeypatch, *words, checkpoint, "background_power.sams=2")
    assert len(list((tmp_path / "seeds/coarse").glob("*.png"))) == 6
