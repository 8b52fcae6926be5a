"""A plan says what a run would cost, and leaves everything as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.modeling import ImageEncoderViT

import infer
import train
from callbacks import pace
from fmawsss.files.products import ProductMismatch
from fmawsss.sam.encoder import FusedEncoder
from fmawsss.sam.points import Frame, SamPoints
from fmawsss.tiny.models import tiny_sam
from stages.plan import advice, cutting
from tests.front_door import QUICK, run

CHEAP = ["logger=none", "report=none", "trainer=cpu"]
CUT = ["task=superpixels", "sam=superpixels_classic", *CHEAP]
ROW = re.compile(r"\w+: (learn|apply)")


@pytest.fixture(autouse=True)
def _clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look at the clock take a second, so that estimates are counts."""
    monkeypatch.chdir(tmp_path)
    seconds = count()
    for place in (pace, cutting):
        monkeypatch.setattr(place, "read_clock", lambda: float(next(seconds)))
    monkeypatch.setattr(advice, "CUTTERS", ("sam=superpixels_classic",))


def draw_photos(folder: Path, amount: int) -> list[str]:
    """Draw photos of two classes, and return the words that choose them."""
    rng = np.random.default_rng(0)
    for number in range(amount):
        path = folder / ("disk" if number % 2 else "ring") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return ["dataset=folder", f"dataset.root={folder}", "dataset/labels=folders"]


def list_files(folder: Path) -> dict[str, tuple[int, int] | None]:
    """List what is in a folder: files with sizes and times of change, and folders."""
    return {str(path): describe_file(path) for path in sorted(folder.rglob("*"))}


def describe_file(path: Path) -> tuple[int, int] | None:
    """Return the size and the time of change of a file."""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


@pytest.fixture
def plan(tmp_path: Path, monkeypatch, capsys) -> Iterator[Callable[..., str]]:
    """Plan a run, whatever it is, and return what is printed; nothing on disk may change."""

    def print_plan(main: Callable[[], None], *words: str) -> str:
        before = list_files(tmp_path)
        capsys.readouterr()
        run(main, monkeypatch, "plan=true", *words)
        assert list_files(tmp_path) == before
        return capsys.readouterr().out

    return print_plan


def read_rows(shown: str) -> dict[str, tuple[str, ...]]:
    """Read a plan: for each part of a stage what is there, what is left, measured, and time."""
    lines = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines()]
    return {cells[1]: tuple(cells[2:6]) for cells in lines if ROW.fullmatch("".join(cells[1:2]))}


def test_a_fresh_pipeline_shows_all_its_stages(plan) -> None:
    rows = read_rows(plan(train.main, *QUICK, *CHEAP))
    assert list(rows) == [
        "superpixels: apply", "cls: learn", "cls: apply", "coarse_memory: apply", "seg: learn",
        "seg: apply", "fine_memory: apply", "network: learn", "network: apply",
    ]  # fmt: skip
    assert rows["cls: learn"][:2] == ("nothing", "3 steps")
    assert rows["cls: apply"][:2] == ("0 of 6 images", "6 images")


def test_what_is_there_is_counted(plan, monkeypatch, tmp_path) -> None:
    words = [*draw_photos(tmp_path / "photos", 4), *CUT]
    run(infer.main, monkeypatch, *words)
    shown = plan(infer.main, *words)
    assert read_rows(shown) == {"superpixels: apply": ("complete", "0 images", "", "")}

    # an image that is lost is the only one that is left
    next((tmp_path / "outputs/folder/superpixels").rglob("*.npz")).unlink()
    rows = read_rows(plan(infer.main, *words))
    assert rows["superpixels: apply"][:2] == ("3 of 4 images", "1 images")

    # all are, made anew
    rows = read_rows(plan(infer.main, *words, "overwrite=true"))
    assert rows["superpixels: apply"][:2] == ("0 of 4 images", "4 images")


@pytest.mark.slow
def test_a_complete_pipeline_has_nothing_left(plan, monkeypatch) -> None:
    run(train.main, monkeypatch, *QUICK, *CHEAP)
    rows = read_rows(plan(train.main, *QUICK, *CHEAP))
    assert len(rows) == 9
    assert {row[0] for row in rows.values()} == {"complete"}


def test_a_training_goes_on_from_its_checkpoint(plan, monkeypatch) -> None:
    quick = ["dataset.train_images=6", "dataset.val_images=3", *CHEAP]
    run(infer.main, monkeypatch, *quick, *CUT)
    words = ["task=cls", "loop.max_steps=3", "save_every=1", "data.batch_size=2", *quick]
    run(train.main, monkeypatch, *words)
    Path("outputs/shapes/cls.ckpt").unlink()
    record = Path("outputs/shapes/cls.ckpt.json")
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    Path("outputs/shapes/checkpoints/cls/step_000003.ckpt").unlink()
    rows = read_rows(plan(train.main, *words))
    assert rows["cls: learn"][:2] == ("a checkpoint at step 2", "1 steps")


def test_other_settings_are_refused_as_the_run_would(monkeypatch, tmp_path) -> None:
    words = [*draw_photos(tmp_path / "photos", 2), *CUT]
    run(infer.main, monkeypatch, *words)
    with pytest.raises(ProductMismatch, match="overwrite=true"):
        run(infer.main, monkeypatch, "plan=true", "sam.segment.sigma=0.5", *words)


def test_time_and_images_grow_together(plan, tmp_path) -> None:
    few = read_rows(plan(infer.main, *draw_photos(tmp_path / "few", 5), *CUT))
    many = read_rows(plan(infer.main, *draw_photos(tmp_path / "many", 40), *CUT))
    assert few["superpixels: apply"][1:] == ("5 images", "1 s an image (3 timed)", "5 s")
    assert many["superpixels: apply"][1:] == ("40 images", "1 s an image (3 timed)", "40 s")


def test_a_slow_sam_is_asked_with_some_points_only(plan, monkeypatch) -> None:
    monkeypatch.setattr(cutting, "SLOW", 0.0)
    words = ["task=superpixels", "dataset.train_images=4", "dataset.val_images=2", *CHEAP]
    row = read_rows(plan(infer.main, *words, "masks.crop_n_layers=1"))["superpixels: apply"]
    how = "blocks of 1 of 5 crops, 72 of 288 points"  # of 12 x 12 in the image, 6 x 6 in each crop
    assert row[1:] == ("4 images", f"9 s an image ({how})", "36 s")


def test_one_block_of_each_kind_stands_for_all(monkeypatch) -> None:
    """An encoder of four blocks with windows, 1 s each, and two global ones, 10 s each."""
    done = [0]

    def run_block(block, maps, numbers):
        done[0] += 1 if block.window_size else 10
        return maps

    monkeypatch.setattr("fmawsss.sam.encoder.run_encoder_block", run_block)
    monkeypatch.setattr(cutting, "read_clock", lambda: float(done[0]))
    sam = tiny_sam()
    size, width = sam.image_encoder.img_size, sam.image_encoder.neck[-1].weight.numel()
    patch = size // sam.prompt_encoder.image_embedding_size[0]
    shape = {"img_size": size, "patch_size": patch, "embed_dim": 8, "depth": 6, "num_heads": 2}
    sam.image_encoder = ImageEncoderViT(
        **shape, out_chans=width, window_size=2, global_attn_indexes=(2, 5)
    )
    plain = partial(FusedEncoder, dtype=torch.float32, bias_numbers=99, compile=None)
    predictor = SamPoints(sam, plain)
    view = np.zeros((30, 40, 3), np.uint8), Frame((0, 0, 40, 30), (30, 40))
    with torch.inference_mode():
        crop, seconds = cutting.time_encoder(predictor, view)
    assert seconds == 4 * 1 + 2 * 10
    assert done == [1 + 10]
    assert len(sam.image_encoder.blocks) == 6
    assert crop.size == (30, 40)


def test_photos_without_a_gpu_are_told_the_cheapest_cut(plan, tmp_path) -> None:
    shown = plan(infer.main, *draw_photos(tmp_path / "photos", 2), *CUT)
    assert "sam=superpixels_classic: " in shown
    assert "nothing to fetch" in shown


def test_missing_weights_are_named_with_their_size(plan, tmp_path, monkeypatch) -> None:
    photos = draw_photos(tmp_path / "photos", 2)
    monkeypatch.setattr("fmawsss.files.downloads.urlopen", None)  # nothing is asked for
    words = ["task=labels", "dataset.classes=[cat,dog]", "data.resize.longest=64", *photos[:2]]
    shown = plan(infer.main, *words, *CHEAP)
    assert re.search(r"to fetch: weights/ViT-B-16.pt, 351 MB, from https://", shown)
    assert "random here" in shown


def test_other_values_are_refused(monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"plan=maybe.*true or false"):
        run(train.main, monkeypatch, "plan=maybe")
    assert not list(tmp_path.iterdir())


def test_several_runs_have_no_plan(monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match="for one run"):
        run(train.main, monkeypatch, "-m", "plan=true", "seed=1,2")
    assert not list(tmp_path.iterdir())


def test_jobs_have_no_plan(monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"plan=true has no part in task=check"):
        run(infer.main, monkeypatch, "plan=true", "task=check", "dataset.train_images=2")


def test_a_plan_leaves_no_folder_of_a_cache(plan, monkeypatch) -> None:
    quick = ["dataset.train_images=4", "dataset.val_images=2", *CHEAP]
    run(infer.main, monkeypatch, *quick, *CUT)
    words = ["task=cls", "cache=features", "loop.max_steps=2", "data.batch_size=2"]
    rows = read_rows(plan(train.main, *words, *quick))
    assert rows["cls: learn"][1] == "2 steps"


def test_a_checkpoint_on_the_way_is_planned(plan, monkeypatch) -> None:
    quick = ["dataset.train_images=4", "dataset.val_images=2", *CHEAP]
    run(infer.main, monkeypatch, *quick, *CUT)
    words = ["task=cls", "loop.max_steps=2", "save_every=1", "ckpt=1", "data.batch_size=2"]
    rows = read_rows(plan(train.main, *words, *quick))
    assert rows["cls: apply"][:2] == ("0 of 4 images", "4 images")


def test_archives_of_a_data_set_are_named_with_their_size(plan, tmp_path) -> None:
    (tmp_path / "data/coco/val2014").mkdir(parents=True)
    shown = plan(infer.main, "task=prepare", "dataset=coco")
    assert "to fetch: data/downloads/train2014.zip, 13.5 GB, from http:" in shown
    assert "data/coco/val2014 is there" in shown
    assert "27.5 GB of disk" in shown
    assert "2.0 GB" in plan(infer.main, "task=prepare", "dataset=voc")
