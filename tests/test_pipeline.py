"""The front door, end to end on a handful of generated images with the tiny models."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import QUICK, run
from PIL import Image

import infer
import train
from datamodules.shapes import ShapesDataModule, describe_scene
from fmawsss.files.products import ProductMismatch, read_fingerprint
from fmawsss.tiny.shapes import CLASS_NAMES


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished pipeline that a test may change."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def places(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts]
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in files
    }


def contents(folder: Path) -> dict[str, bytes]:
    told = (".files.jsonl", ".checked_files.json")  # notes of files tell their times
    files = snapshot(folder).items()
    return {name: content for name, (_, content) in files if not name.endswith(told)}


def test_every_stage_leaves_its_product(finished):
    work = finished / "outputs" / "shapes"
    for folder, suffix, images in (
        ("superpixels", "npz", 6),
        ("seeds/coarse", "png", 6),
        ("seeds/fine", "png", 6),
        ("masks", "png", 3),
        ("overlays", "png", 3),
    ):
        assert len(list((work / folder).glob(f"*.{suffix}"))) == images, folder
    for name in ("cls", "seg", "network"):
        assert (work / f"{name}.ckpt").is_file()
    for name in ("superpixels", "coarse", "fine", "masks"):
        assert (work / "pictures" / f"{name}.png").is_file()


def test_the_scores_name_stage_split_and_kind(finished):
    scores = json.loads((finished / "outputs/shapes/scores.json").read_text())
    assert set(scores["cls"]["train"]) == {"cam", "caa", "sams"}
    assert set(scores["seg"]["train"]) == {"cam", "caa", "sams"}
    assert 0 <= scores["network"]["val"]["network"]["miou"] <= 1


def read_parts(record: Path) -> list[str]:
    return list(json.loads(record.read_text())["parts"])


def test_a_split_names_what_is_learned_from(finished, tmp_path, monkeypatch):
    there = [
        "dataset.train_images=6",
        "dataset.val_images=3",
        f"paths.data={finished}/data",
        f"paths.outputs={tmp_path}",
    ]
    once = ["loop.max_steps=1", "data.batch_size=2", "data.workers=0", "logger=none", "report=none"]
    plain = ["data.superpixels=null", "writers.seeds.kind=cam", "scored=cam"]
    run(train.main, monkeypatch, "task=cls", "split=val", *plain, *once, *there)
    work = tmp_path / "shapes"
    assert read_parts(work / "cls.ckpt.json") == read_parts(work / "seeds/coarse.json") == ["val"]
    assert {path.stem[:3] for path in (work / "seeds/coarse").glob("*.png")} == {"val"}

    seeds = f"seeds={finished}/data/shapes-0/SegmentationClass"
    run(train.main, monkeypatch, "task=network", "split=[train,val]", seeds, *once, *there)
    assert read_parts(work / "network.ckpt.json") == ["train,val"]
    assert read_parts(work / "masks.json") == ["val"], (
        "a network is applied to the split of its recipe"
    )


def test_a_prompt_checkpoint_holds_the_contexts_only(finished):
    for name in ("cls", "seg"):
        checkpoint = torch.load(finished / f"outputs/shapes/{name}.ckpt", weights_only=True)
        assert list(checkpoint["state_dict"]) == ["prompts.context"]
        assert (finished / f"outputs/shapes/{name}.ckpt").stat().st_size < 100_000


def test_seeds_hold_background_and_present_classes_only(finished):
    work, data = finished / "outputs/shapes", finished / "data/shapes-0"
    for path in (work / "seeds/fine").glob("*.png"):
        with Image.open(path) as seed, Image.open(data / "SegmentationClass" / path.name) as truth:
            assert seed.mode == "P"
            assert set(np.unique(np.array(seed))) <= {0, *np.unique(np.array(truth))}


def test_running_again_changes_nothing(copied, monkeypatch):
    asked, read_split = [], ShapesDataModule.read_split

    def note(data, split):
        asked.append((split, data.labelled))
        return read_split(data, split)

    monkeypatch.setattr(ShapesDataModule, "read_split", note)
    before = snapshot(copied / "outputs/shapes")
    run(train.main, monkeypatch, *QUICK, *places(copied))
    assert len(asked) == len(set(asked))  # one module reads for all
    after = snapshot(copied / "outputs/shapes")
    for rewritten in ("scores.json", "report.html", ".checked_files.json"):
        del before[rewritten], after[rewritten]
    assert after == before


def test_a_missing_file_is_made_again_alone(copied, monkeypatch):
    work = copied / "outputs/shapes"
    before = snapshot(work)
    (work / "seeds/fine/train_00002.png").unlink()
    run(train.main, monkeypatch, *QUICK, *places(copied))
    after = snapshot(work)
    changed = {
        name
        for name in before
        if after[name][0] != before[name][0] and name.endswith((".png", ".npz", ".ckpt"))
    }
    drawn = {"pictures/fine.png", "pictures/fine/rows/train_00002.png"}
    assert changed == {"seeds/fine/train_00002.png"} | drawn
    assert after["seeds/fine/train_00002.png"][1] == before["seeds/fine/train_00002.png"][1]


def test_a_batch_that_was_cut_off_is_made_again_as_a_whole(copied, monkeypatch):
    """Which images are computed together does not depend on where a run was killed."""
    work = copied / "outputs/shapes"
    before = contents(work)
    (journal,) = (work / "seeds").glob("fine.scores.*.jsonl")
    journal.write_text(journal.read_text()[: journal.stat().st_size * 5 // 6])
    shutil.rmtree(work / "pictures/fine")
    run(train.main, monkeypatch, *QUICK, *places(copied))
    after = contents(work)
    differing = {name for name in before if after[name] != before[name]}
    assert differing <= {"report.html", "seeds/fine.scores.1-0.jsonl"}  # they tell paths


def test_other_settings_are_refused_until_overwritten(copied, monkeypatch):
    other = ["task=cls", "seeding.sams.background.power=2", *places(copied)]
    quick = ["dataset.train_images=6", "dataset.val_images=3", "loop.max_steps=3", "save_every=1"]
    with pytest.raises(ProductMismatch, match=r"power: 0\.\d+ -> 2[\s\S]*overwrite=true"):
        run(infer.main, monkeypatch, *other, *quick)
    kept = copied / "outputs/shapes/pictures/coarse/refined CAM/train_00000.npz"
    run(infer.main, monkeypatch, *other, *quick, "overwrite=true")
    assert str(np.load(kept)["fingerprint"]) == read_fingerprint(
        copied / "outputs/shapes/seeds/coarse"
    )


def test_changed_labels_are_noticed(copied, monkeypatch):
    annotation = copied / "data/shapes-0/Annotations/train_00001.xml"
    annotation.write_text(describe_scene("train_00001", (112, 112), list(CLASS_NAMES)))
    with pytest.raises(
        ProductMismatch, match=r"other images or labels of train[\s\S]*overwrite=true"
    ):
        run(train.main, monkeypatch, *QUICK, *places(copied))


def test_the_jobs_of_a_sweep_have_folders_of_their_own(copied, monkeypatch):
    quick = [*QUICK[:2], "loop.max_steps=1", "save_every=1", *places(copied)]
    before = contents(copied / "outputs/shapes")
    run(train.main, monkeypatch, "-m", "task=cls", "seed=1,2", *quick)
    jobs = list((copied / "outputs/shapes/sweeps").glob("*/*/cls.ckpt"))
    assert sorted(job.parent.name for job in jobs) == ["0", "1"]
    after = contents(copied / "outputs/shapes")
    assert {
        name: content for name, content in after.items() if not name.startswith("sweeps")
    } == before


def test_a_killed_training_goes_on_to_the_same_result(finished, tmp_path, monkeypatch):
    quick = ["dataset.train_images=6", "dataset.val_images=3", "loop.max_steps=4", "save_every=1"]
    task = ["task=cls", *quick, f"paths.data={finished}/data"]
    shutil.copytree(finished / "outputs/shapes/superpixels", tmp_path / "superpixels")
    shutil.copy(finished / "outputs/shapes/superpixels.json", tmp_path)
    there = [f"data.superpixels={tmp_path}/superpixels"]

    run(train.main, monkeypatch, *task, *there, f"paths.outputs={tmp_path}/whole")
    with pytest.MonkeyPatch.context() as patch:
        kill_after_steps(patch, 2)
        with pytest.raises(SystemExit):
            run(train.main, patch, *task, *there, f"paths.outputs={tmp_path}/killed")
    run(train.main, monkeypatch, *task, *there, f"paths.outputs={tmp_path}/killed")

    whole, killed = (
        torch.load(tmp_path / f"{run}/shapes/cls.ckpt", weights_only=True)
        for run in ("whole", "killed")
    )
    assert torch.equal(
        whole["state_dict"]["prompts.context"], killed["state_dict"]["prompts.context"]
    )
    assert contents(tmp_path / "whole/shapes/seeds") == contents(tmp_path / "killed/shapes/seeds")


def kill_after_steps(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the third training step die as a killed process would."""
    from lightning_modules.prompts import PromptModule

    training_step = PromptModule.training_step
    calls = []

    def die(self, batch, batch_index):
        calls.append(batch_index)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return training_step(self, batch, batch_index)

    patch.setattr(PromptModule, "training_step", die)


def test_seeds_from_written_cams_equal_those_of_the_stage(copied, monkeypatch):
    quick = [*QUICK[:2], *places(copied)]
    run(infer.main, monkeypatch, "task=cls", "callbacks=cams", *quick)
    cams = copied / "outputs/shapes/cams/coarse"
    assert len(list(cams.glob("*.npz"))) == 6
    run(infer.main, monkeypatch, "task=seeds", f"cams={cams}", "affinity=shapes", *quick)
    seeds = copied / "outputs/shapes/seeds"
    assert contents(seeds / "from_cams") == contents(seeds / "coarse")


def test_an_earlier_step_is_applied_by_its_number(copied, monkeypatch):
    quick = [*QUICK[:2], "loop.max_steps=3", "save_every=1", *places(copied)]
    run(infer.main, monkeypatch, "task=cls", "ckpt=2", "emits=${paths.work}/seeds/step_2", *quick)
    assert len(list((copied / "outputs/shapes/seeds/step_2").glob("*.png"))) == 6
    with pytest.raises(FileNotFoundError, match=r"step_000009\.ckpt"):
        run(
            infer.main,
            monkeypatch,
            "task=cls",
            "ckpt=9",
            "emits=${paths.work}/seeds/step_9",
            *quick,
        )


def apply_contexts(copied, monkeypatch, content) -> None:
    torch.save(content, copied / "released.pth")
    there = [
        f"ckpt={copied}/released.pth",
        "emits=${paths.work}/seeds/released",
        *QUICK[:2],
        *places(copied),
    ]
    run(infer.main, monkeypatch, "task=cls", *there)


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 1}]
)
def test_released_contexts_are_applied(copied, monkeypatch, wrap):
    context = torch.load(copied / "outputs/shapes/cls.ckpt", weights_only=True)["state_dict"][
        "prompts.context"
    ]
    apply_contexts(copied, monkeypatch, wrap({"prompt_learner.ctx": context[0]}))
    seeds = copied / "outputs/shapes/seeds"
    assert contents(seeds / "released") == contents(seeds / "coarse")


@pytest.mark.parametrize(
    ("axis", "size", "remedy"),
    [(0, 9, "prompts=per_class"), (1, 7, "prompts.contexts.length=7"), (2, 32, "clip")],
)
def test_contexts_of_another_shape_name_file_shapes_and_setting(
    copied, monkeypatch, axis, size, remedy
):
    own = torch.load(copied / "outputs/shapes/cls.ckpt", weights_only=True)["state_dict"][
        "prompts.context"
    ].shape
    other = [size if index == axis else length for index, length in enumerate(own)]
    shapes = [re.escape(str(tuple(shape))) for shape in (other, own)]
    with pytest.raises(
        ValueError, match=rf"released\.pth.*{shapes[0]}.*{shapes[1]}.*trained with: {remedy}"
    ):
        apply_contexts(copied, monkeypatch, {"prompt_learner.ctx": torch.zeros(other)})


def test_cut_checkpoints_name_themselves_and_the_remedy(copied, monkeypatch):
    work = copied / "outputs/shapes"
    quick = [*QUICK[:2], "loop.max_steps=3", "save_every=1", *places(copied)]
    (work / "cls.ckpt").write_bytes((work / "cls.ckpt").read_bytes()[:1000])
    with pytest.raises(ProductMismatch, match=r"cls\.ckpt.*cut off.*command that made it again"):
        run(infer.main, monkeypatch, "task=cls", "emits=${paths.work}/seeds/again", *quick)


def test_handwritten_prompts_need_no_training(copied, monkeypatch):
    there = ["emits=${paths.work}/seeds/handwritten", *QUICK[:2], *places(copied)]
    run(train.main, monkeypatch, "task=cls", "prompts=handwritten", *there)
    assert len(list((copied / "outputs/shapes/seeds/handwritten").glob("*.png"))) == 6


def test_the_network_masks_a_folder_of_photos(finished, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (70, 101, 3), dtype=np.uint8)).save(photos / "été.png")
    Image.fromarray(rng.integers(0, 255, (64, 32, 3), dtype=np.uint8)).save(photos / "b.jpg")
    run(
        infer.main, monkeypatch, "task=network", "dataset=folder", f"dataset.root={photos}",
        *places(finished), f"paths.work={tmp_path}/out",
    )  # fmt: skip
    with (
        Image.open(tmp_path / "out/masks/été.png") as mask,
        Image.open(tmp_path / "out/overlays/b.png") as overlay,
    ):
        assert (mask.mode, mask.size) == ("P", (101, 70))
        assert overlay.size == (32, 64)
    report = (tmp_path / "out/report.html").read_text()
    assert "most uncertain" in report
    assert "confidence 0." in report  # of the less sure one of the two


@pytest.mark.parametrize("word", ["ckpt=3", "split=val", "shard=1/2"])
def test_what_belongs_to_one_stage_is_refused_before_any_work(tmp_path, monkeypatch, word):
    with pytest.raises(ValueError, match=f"{word.partition('=')[0]} belongs to one stage"):
        run(train.main, monkeypatch, *QUICK, word, *places(tmp_path))
    assert not (tmp_path / "data").exists()


def test_a_pipeline_is_learned_and_never_only_applied(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"use `python train\.py task=pipeline`"):
        run(infer.main, monkeypatch, "task=pipeline", *QUICK, *places(tmp_path))
