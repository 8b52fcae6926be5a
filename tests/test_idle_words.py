"""A choice that a run would pass over is refused in a line, or told; none is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_door import run

import infer
import train

QUICK = ["dataset.train_images=2", "dataset.val_images=1", "loading.workers=0"]
CLASSIC = ["task=superpixels", "sam=superpixels_classic", "logger=none", "report=none"]


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (train, ["task=cls", "+save_as@stage.runtime.exports=[voc]"], "save_as="),
        (train, ["task=network", "cache=features"], "trainings of prompts"),
        (train, ["task=cls", "criterion=agreement"], "jobs of a sweep"),
        (infer, ["task=check", "save_as=[voc]"], "written for other tools"),
        (infer, ["task=cls", "cache=features"], "trainings of prompts"),
        (infer, ["task=cls", "loss=su"], "learned with"),
        (infer, ["task=network", "averaging=ema"], "learned with"),
        (infer, ["task=network", "targets=soft"], "learned with"),
        (infer, ["task=network", "network=tower"], "checkpoint brings its own"),
        (infer, ["task=seeds", "memory=regions"], "callbacks=regions"),
        (infer, ["task=check", "callbacks=cams"], "no product"),
        (infer, ["task=check", "logger=wandb"], "logs nothing"),
        (infer, ["task=prepare", "trainer=ddp"], "runs on the CPU"),
        (infer, ["task=check", "ckpt=some.ckpt"], "leave it out"),
        (infer, ["task=check", "overwrite=true"], "leave it out"),
        (infer, ["task=report", "shard=1/2"], "leave it out"),
        (infer, ["task=report", "report=none"], "leave it out"),
        (infer, ["task=labels", "dataset.shots=2"], "leave it out"),
        (infer, ["task=superpixels", "compile=true"], "leave it out"),
        (infer, ["task=cls", "dataset.phrases={circle:[disc]}"], "evidence=fused. ask them"),
        (infer, ["task=check", "dataset.phrases={circle:[disc]}"], "evidence=fused. ask them"),
        (train, ["task=pipeline", "dataset.phrases={circle:[disc]}"], "evidence=fused. ask them"),
        (train, ["task=network", "evidence=fused"], "it is for"),
        (infer, ["task=cls", "dino=dinov2_vits14"], "affinity=dino.* take it"),
        (train, ["task=network", "dino=dinov3_vitb16"], "take it"),
    ],
)
def test_what_has_no_part_is_refused(tmp_path: Path, monkeypatch, main, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"has no part in task={words[0][5:]}.*{said}"):
        run(main.main, monkeypatch, *words, *QUICK)
    assert not list(tmp_path.glob("outputs/*/*/*/run.json"))


@pytest.mark.parametrize(
    ("task", "kept"),
    [
        ("network", "cams"),
        ("network", "regions"),
        ("network", "seed_confidence"),
        ("cls", "confidence"),
        ("superpixels", "cams_half"),
    ],
)
def test_what_no_stage_makes_cannot_be_kept(tmp_path: Path, monkeypatch, task, kept) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"callbacks={kept} keeps.*task={task} makes nothing"):
        run(infer.main, monkeypatch, f"task={task}", f"callbacks={kept}", *QUICK)
    assert not list(tmp_path.glob("outputs/*/*/*/run.json"))


@pytest.mark.parametrize(
    ("task", "recipe", "remedy"),
    [
        ("seeds", "seeds_seg_vox", "choose from seeds_coco, seeds_folder, .*seeds_seg_voc"),
        ("cls", "seg_voc", "choose from cls_coco"),
        ("memory", "cls_voc", "leave it out"),
        ("check", "nothing", "leave it out"),
    ],
)
def test_a_recipe_is_one_of_the_task(tmp_path: Path, monkeypatch, task, recipe, remedy) -> None:
    """A recipe that is missing may be missing by itself, but not when it was typed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"recipe={recipe}: task={task} has no.*; {remedy}"):
        run(infer.main, monkeypatch, f"task={task}", f"recipe={recipe}", *QUICK)
    assert not list(tmp_path.glob("outputs/*/*/*/run.json"))


def test_a_checkpoint_of_what_nothing_is_learned_for_is_refused(
    tmp_path: Path, monkeypatch
) -> None:
    """Hand-written prompts were applied as they are, whatever ckpt= named."""
    monkeypatch.chdir(tmp_path)
    words = ["task=cls", "prompts=handwritten", "clip=tiny", "ckpt=none.ckpt", "logger=none"]
    with pytest.raises(ValueError, match=r"ckpt=none\.ckpt has no part in task=cls"):
        run(infer.main, monkeypatch, *words, *QUICK)


def test_a_refusal_is_all_that_is_printed(tmp_path: Path, monkeypatch, capsys) -> None:
    """Hydra's line about the job, which repeats all words, stays away."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("sys.argv", ["infer.py", "task=check", "debug=fast", *QUICK])
    with pytest.raises(SystemExit, match="debug=fast has no part in task=check"):
        infer.main()
    assert not capsys.readouterr().err


def test_formats_of_other_tools_belong_to_the_other_door(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "task=network", "save_as=[voc]"])
    with pytest.raises(SystemExit, match=r"infer.py task=network save_as="):
        train.main()


def test_weights_and_numbers_of_other_tasks_are_told(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["clip=tiny", "numbers=voc", "trainer=cpu", "callbacks=none"]
    run(infer.main, monkeypatch, *CLASSIC, *QUICK, *words)
    told = capsys.readouterr().out
    assert "clip=tiny changes nothing of task=superpixels" in told
    assert "numbers=voc changes nothing of task=superpixels" in told
    assert len(list(tmp_path.glob("outputs/shapes/superpixels/*.npz"))) == 2
