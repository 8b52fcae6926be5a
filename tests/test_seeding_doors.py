"""Every way of METHOD 2, 6 and 7 is chosen on the command line, others' CAMs too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import QUICK, compose_config, run

import infer
import train
from fmawsss.files.png import read_mask
from fmawsss.files.storage import read_cams


def places(finished: Path, work: Path) -> list[str]:
    there = [
        f"paths.data={finished}/data",
        f"paths.work={work}",
        "logger=none",
        "report=none",
        "callbacks=none",
    ]
    return [*QUICK[:2], *there, f"data.superpixels={finished}/outputs/shapes/superpixels"]


def apply_cls(finished: Path, work: Path, monkeypatch, *words: str) -> dict[str, bytes]:
    there = [*places(finished, work), f"ckpt={finished}/outputs/shapes/cls.ckpt"]
    run(infer.main, monkeypatch, "task=cls", *there, *words)
    return {path.name: path.read_bytes() for path in (work / "seeds/coarse").glob("*.png")}


@pytest.fixture
def foreign(finished, tmp_path) -> Path:
    """CAMs of another method for the training images: two classes each, without attention."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for index, path in enumerate(sorted((finished / "data/shapes-0/JPEGImages").glob("train_*"))):
        maps = np.random.default_rng(index).random((2, 7, 7)).astype(np.float32)
        np.savez(folder / f"{path.stem}.npz", cam=maps, classes=np.array([1, 4]))
    return folder


def seed_from(finished: Path, work: Path, cams: Path, monkeypatch, *words: str) -> list[np.ndarray]:
    run(infer.main, monkeypatch, "task=seeds", f"cams={cams}", *places(finished, work), *words)
    return [read_mask(path) for path in sorted((work / "seeds/from_cams").glob("*.png"))]


@pytest.mark.parametrize(
    "choice",
    [
        ["seeding=sams_threshold", "seeding.sams.background.value=0.9"],
        ["seeding=sams_softmax", "seeding.sams.prepare.gamma=1e6"],
        ["seeding.sams.pool._target_=fmawsss.seeding.pool_sum"],
        ["background_power.sams=9"],
    ],
    ids=str,
)
def test_other_seedings_make_other_seeds(choice, finished, tmp_path, monkeypatch):
    usual = apply_cls(finished, tmp_path / "usual", monkeypatch)
    other = apply_cls(finished, tmp_path / "other", monkeypatch, *choice)
    assert usual.keys() == other.keys()
    assert usual != other


def test_cams_of_other_methods_become_seeds(finished, foreign, tmp_path, monkeypatch):
    seeds = seed_from(finished, tmp_path / "work", foreign, monkeypatch, "affinity=none")
    assert len(seeds) == 6
    assert set(np.unique(seeds)) <= {0, 2, 5}
    with pytest.raises(ValueError, match=r"train_0000\d: .*affinity=none"):
        seed_from(finished, tmp_path / "other", foreign, monkeypatch)


def test_a_background_channel_of_their_own_is_used(finished, foreign, tmp_path, monkeypatch):
    for path in foreign.iterdir():
        np.savez(path, cam=np.load(path)["cam"], classes=np.array([-1, 4]))
    words = ["affinity=none", "seeding=sams_alpha", "background_power.sams=1"]
    seeds = seed_from(finished, tmp_path / "work", foreign, monkeypatch, *words)
    assert set(np.unique(seeds)) == {0, 5}


def test_seeds_from_files_may_look_at_the_image(finished, foreign, tmp_path, monkeypatch):
    settings = "distances: [1, 2], sharpness: 4.0, steps: 3"
    refine = f"{{_target_: fmawsss.networks.refinement.PixelAdaptive, {settings}}}"
    refine = f"seeding.caa.crf={refine.replace(': ', ':')}"
    words = ["affinity=none", "writers.seeds.kind=caa"]
    plain = seed_from(finished, tmp_path / "plain", foreign, monkeypatch, *words)
    refined = seed_from(finished, tmp_path / "refined", foreign, monkeypatch, *words, refine)
    assert any((one != other).any() for one, other in zip(plain, refined, strict=True))


@pytest.mark.parametrize("numbers", ["voc", "coco"])
def test_cams_become_the_seeds_of_the_stage_that_made_them(
    numbers, finished, tmp_path, monkeypatch
):
    # Both stages write CAMs; COCO's seg has no affinity, the tiny CLIP has five blocks
    made = {}
    for task, kind in (("cls", "coarse"), ("seg", "fine")):
        few = [] if (task, numbers) == ("seg", "coco") else ["affinity.attention_blocks=4"]
        words = [
            f"task={task}",
            f"numbers={numbers}",
            "prompts=handwritten",
            "callbacks=cams",
            *few,
        ]
        where = [word for word in places(finished, tmp_path / "made") if word != "callbacks=none"]
        run(infer.main, monkeypatch, *words, *where)
        made[task] = [read_mask(p) for p in sorted((tmp_path / f"made/seeds/{kind}").glob("*.png"))]
    coarse, fine = (tmp_path / "made/cams" / kind for kind in ("coarse", "fine"))

    # The same numbers make the same seeds
    found = seed_from(finished, tmp_path / "cls", coarse, monkeypatch, f"numbers={numbers}")
    np.testing.assert_array_equal(found, made["cls"])
    recipe = f"recipe=seeds_seg_{numbers}"
    found = seed_from(finished, tmp_path / "seg", fine, monkeypatch, f"numbers={numbers}", recipe)
    np.testing.assert_array_equal(found, made["seg"])

    # Others are refused before anything is written, unless they are meant
    other = "coco" if numbers == "voc" else "voc"
    with pytest.raises(ValueError, match=f"made by cls_{numbers}.*numbers={numbers}"):
        seed_from(finished, tmp_path / "other", coarse, monkeypatch, f"numbers={other}")
    with pytest.raises(ValueError, match=f"made by seg_{numbers}.*recipe=seeds_seg_{numbers}"):
        seed_from(finished, tmp_path / "other", fine, monkeypatch, f"numbers={other}")
    assert not [path for path in (tmp_path / "other/seeds").rglob("*") if path.is_file()]
    meant = [f"numbers={other}", f"cams_of=[cls_{numbers}]"]
    assert len(seed_from(finished, tmp_path / "other", coarse, monkeypatch, *meant)) == 6


def test_half_precision_cams_are_written_and_read(finished, tmp_path, monkeypatch):
    for name in ("cams", "cams_half"):
        apply_cls(finished, tmp_path / name, monkeypatch, f"callbacks={name}")
    whole, half = (
        sorted((tmp_path / name / "cams/coarse").glob("*.npz")) for name in ("cams", "cams_half")
    )
    assert sum(path.stat().st_size for path in half) < 0.7 * sum(
        path.stat().st_size for path in whole
    )
    one, other = read_cams(whole[0]).maps, read_cams(half[0]).maps
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * one.abs().max().item())


def test_contexts_are_grouped_or_go_on_from_released_ones(finished, tmp_path, monkeypatch):
    cfg = compose_config("train", "task=cls")
    prompts = len(cfg.dataset.classes) + len(cfg.dataset.background)
    groups = [index % 3 for index in range(prompts)]
    grouped, released = ["prompts=grouped", f"prompts.share.groups={groups}"], ["prompts=released"]
    start = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    few = ["task=cls", "loop.max_steps=1", "save_every=1", *places(finished, tmp_path)]
    run(train.main, monkeypatch, *few, *grouped)
    context = torch.load(tmp_path / "cls.ckpt", weights_only=True)["state_dict"]["prompts.context"]
    assert len(context) == 3
    torch.save({"prompt_learner.ctx": start}, tmp_path / "released.pth")
    released += [
        f"prompts.contexts.path={tmp_path}/released.pth",
        "overwrite=true",
        "optimizer.lr=1e-12",
    ]
    run(train.main, monkeypatch, *few, *released)
    context = torch.load(tmp_path / "cls.ckpt", weights_only=True)["state_dict"]["prompts.context"]
    torch.testing.assert_close(context, start)
