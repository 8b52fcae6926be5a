"""Each way to refine CAMs is chosen on the command line (METHOD 5, 11.2, 11.3)."""

from __future__ import annotations

import pytest
from front_door import QUICK, run
from hydra.errors import InstantiationException

import infer
import train
from fmawsss.files.products import ProductMismatch
from fmawsss.files.storage import read_cams


def apply_cls(finished, work, monkeypatch, *words):
    places = [
        f"paths.data={finished}/data",
        f"paths.work={work}",
        f"data.superpixels={finished}/outputs/shapes/superpixels",
        f"ckpt={finished}/outputs/shapes/cls.ckpt",
    ]
    run(infer.main, monkeypatch, "task=cls", *QUICK[:2], *places, "logger=none", *words)
    return {path.name: path.read_bytes() for path in (work / "seeds/coarse").glob("*.png")}


def test_class_distribution_makes_other_seeds(finished, tmp_path, monkeypatch):
    usual = apply_cls(finished, tmp_path / "usual", monkeypatch, "callbacks=cams")
    other = apply_cls(finished, tmp_path / "other", monkeypatch, "affinity=class_distribution")
    assert len(usual) == 6
    assert usual.keys() == other.keys()
    assert usual != other

    # images one by one are the same as a batch
    one = ["affinity=class_distribution", "data.predict_batch_size=1"]
    assert apply_cls(finished, tmp_path / "one", monkeypatch, *one) == other

    # CAMs on disk know no prompts
    cams = tmp_path / "usual/cams/coarse"
    assert read_cams(next(cams.glob("*.npz"))).attention is not None
    places = [f"paths.data={finished}/data", f"paths.work={tmp_path}/seeds", f"cams={cams}"]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels", *QUICK[:2]]
    with pytest.raises(ValueError, match=r"train_\d+: affinity=class_distribution"):
        run(
            infer.main, monkeypatch, "task=seeds", *places, "affinity=class_distribution",
            "logger=none",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["dino", "dino_proxy", "dino_superpixels"])
def test_another_encoder_makes_other_seeds(name, finished, tmp_path, monkeypatch):
    folder = finished / "outputs/shapes/seeds/coarse"
    usual = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    other = apply_cls(finished, tmp_path, monkeypatch, f"affinity={name}")
    assert usual.keys() == other.keys()
    assert usual != other


def test_cams_of_any_origin_are_spread_by_another_encoder(finished, tmp_path, monkeypatch):
    apply_cls(finished, tmp_path / "usual", monkeypatch, "callbacks=cams")
    places = [
        f"paths.data={finished}/data",
        f"data.superpixels={finished}/outputs/shapes/superpixels",
        f"cams={tmp_path}/usual/cams/coarse",
        *QUICK[:2],
        "logger=none",
    ]
    seeds = {}
    for affinity in ("none", "dino_proxy"):
        work = tmp_path / affinity
        words = [f"paths.work={work}", f"affinity={affinity}"]
        run(infer.main, monkeypatch, "task=seeds", *places, *words)
        folder = work / "seeds/from_cams"
        seeds[affinity] = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(seeds["none"]) == 6
    assert seeds["none"].keys() == seeds["dino_proxy"].keys()
    assert seeds["none"] != seeds["dino_proxy"]


def test_learned_prompts_do_not_depend_on_the_affinity(finished, tmp_path, monkeypatch):
    """Another affinity makes seeds anew, and learns nothing anew."""
    places = [f"paths.data={finished}/data", f"paths.work={tmp_path}", "logger=none", *QUICK[:2]]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels"]
    short = ["task=cls", "loop.max_steps=2", "save_every=1"]
    run(train.main, monkeypatch, *short, *places)
    before = (tmp_path / "cls.ckpt").stat().st_mtime_ns
    with pytest.raises(ProductMismatch, match=r"seeds/coarse") as found:
        run(train.main, monkeypatch, *short, *places, "affinity=dino")
    assert "cls.ckpt" not in str(found.value)
    assert (tmp_path / "cls.ckpt").stat().st_mtime_ns == before


def test_missing_weights_are_named_before_anything_runs(finished, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("fmawsss.files.downloads.urlopen", refuse)
    words = ["affinity@stages.seg.applying.seeding.refine=dino", "dino=dinov3_vits16", *QUICK]
    places = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}/out", "logger=none"]
    places += [f"paths.weights={tmp_path}/weights"]
    with pytest.raises(InstantiationException, match=r"weights/vit_small_patch16_dinov3.*licence"):
        run(train.main, monkeypatch, *words, *places)
    assert not list((tmp_path / "out").rglob("*.png"))

    # an unknown name, and a network that has no one grid
    for name, expected in (("vit_small_dino9", "dino.name"), ("resnet50.a1_in1k", "plain vision")):
        words = ["affinity=dino", "dino=dinov2_vits14", f"dino.name={name}"]
        with pytest.raises(InstantiationException, match=expected):
            apply_cls(finished, tmp_path / "bad", monkeypatch, *words)
