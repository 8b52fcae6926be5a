"""Photos above the working size: stages see copies, seeds and masks have the photo's own size."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import infer
import train
from fmawsss.files.images import read_image, read_shrunk
from fmawsss.files.json_files import read_json
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch, read_record
from fmawsss.files.storage import read_superpixels
from fmawsss.resizing import resize_image
from stages import image_memory
from tests.front_door import run

LARGE, COPY = (300, 400), (150, 200)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "abc":
        folder = tmp_path / "photos" / ("disk" if name == "a" else "ring")
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((400, 300), Image.Resampling.BICUBIC).save(folder / f"{name}.jpg", quality=95)
    return tmp_path / "photos"


def settings(photos: Path, work: Path) -> list[str]:
    there = ["dataset=folder", f"dataset.root={photos}", "dataset/labels=folders"]
    there += ["dataset.longest=200", f"paths.outputs={work}", "logger=none", "loading.workers=0"]
    there += ["clip=tiny", "report=none"]
    return [*there, "sam=superpixels_classic"]


def test_a_folder_run_learns_what_pays(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    quick = ["loop.max_steps=1", "loop.precision=32-true", "data.batch_size=2"]
    run(train.main, monkeypatch, *there, *(f"stages.network.{word}" for word in quick))
    work = tmp_path / "o/folder"
    assert [*read_json(work / "stages.json")] == ["superpixels", "cls", "coarse_memory", "network"]
    assert not (work / "cls.ckpt").exists()
    seeds = read_record(work / "seeds" / "coarse_memory")["fingerprint"]
    assert read_record(work / "network.ckpt")["upstream"]["seeds"] == seeds


def test_learn_is_refused_where_nothing_is_learned(photos, tmp_path, monkeypatch):
    with pytest.raises((ValueError, SystemExit), match="learn=all has no part in task=seg"):
        run(train.main, monkeypatch, "task=seg", *settings(photos, tmp_path / "o"), "learn=all")


def test_prompts_of_a_run_that_learns_none_are_refused(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    with pytest.raises((ValueError, SystemExit), match="learn=network, which learns no prompts"):
        run(train.main, monkeypatch, *there, "prompts@stages.cls.model.prompts=shared")


def test_a_folder_run_sees_copies_and_writes_at_full_size(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    steps = [f"stages.{stage}.{key}" for stage in ("cls", "seg", "network") for key in (
        "loop.max_steps=1", "loop.precision=32-true", "data.batch_size=2")]  # fmt: skip
    masks = [f"dataset.masks={tmp_path}/truth"]
    for image in photos.rglob("*.jpg"):
        truth = tmp_path / "truth" / image.relative_to(photos).with_suffix(".png")
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones(LARGE, np.uint8)).save(truth)
    run(train.main, monkeypatch, *there, *steps, *masks, "learn=all")
    work = tmp_path / "o/folder"
    assert read_superpixels(work / "superpixels/disk/a.npz").size == COPY
    for folder in ("seeds/coarse", "seeds/fine", "masks"):
        assert read_mask(work / folder / "ring/b.png").shape == LARGE
    assert read_image(work / "overlays/ring/b.png").shape[:2] == LARGE
    seed = read_mask(work / "seeds/fine/ring/b.png")
    assert np.array_equal(seed[::2, ::2], seed[1::2, 1::2])  # enlarged from a copy of half the size

    # the network alone, whose steps nobody counts
    run(infer.main, monkeypatch, "task=network", *there, "overwrite=true")
    assert read_mask(work / "masks/ring/b.png").shape == LARGE


def test_superpixels_of_the_whole_photo_fit_its_copy(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    run(infer.main, monkeypatch, "task=superpixels", *there, "dataset.longest=null")
    whole = tmp_path / "o/folder/superpixels"
    assert read_superpixels(whole / "disk/a.npz").size == LARGE
    words = ["task=cls", "prompts=handwritten", f"data.superpixels={whole}"]
    run(train.main, monkeypatch, *words, *there)
    assert read_mask(tmp_path / "o/folder/seeds/coarse/disk/a.png").shape == LARGE

    # another working size makes other seeds
    with pytest.raises(ProductMismatch, match="longest: 200 -> 100"):
        run(train.main, monkeypatch, *words, *there, "dataset.longest=100")


def test_superpixels_of_another_image_are_refused(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    run(infer.main, monkeypatch, "task=superpixels", *there, "dataset.longest=120")
    words = ["task=cls", "prompts=handwritten", *there]
    with pytest.raises(ValueError, match=r"are of size \(90, 120\)"):
        run(train.main, monkeypatch, *words)


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.jpg", {"quality": 95})])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_copy_is_the_image_made_smaller(name, options, orientation, tmp_path):
    whole = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(whole).resize((201, 101), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / name, exif=exif, **options)
    copy, size = read_shrunk(tmp_path / name, longest=40)
    image = read_image(tmp_path / name)
    assert size == image.shape[:2]
    assert copy.shape[:2] == ((20, 40) if orientation == 1 else (40, 20))
    expected = resize_image(image, copy.shape[:2])
    assert np.abs(copy.astype(int) - expected).mean() < 3
    same, _ = read_shrunk(tmp_path / name, longest=500)
    assert np.array_equal(same, image)


def test_small_photos_are_seen_as_they_are(photos, tmp_path, monkeypatch):
    there = settings(photos, tmp_path / "o")
    run(infer.main, monkeypatch, "task=superpixels", *there, "dataset.longest=1024")
    shutil.move(tmp_path / "o", tmp_path / "before")
    run(infer.main, monkeypatch, "task=superpixels", *there, "dataset.longest=null")
    for name in ("disk/a.npz", "ring/c.npz"):
        before, now = (
            read_superpixels(folder / "folder/superpixels" / name)
            for folder in (tmp_path / "before", tmp_path / "o")
        )
        assert before.counts.equal(now.counts)


def test_the_largest_photo_is_named_with_its_memory(photos, tmp_path, monkeypatch, capsys):
    Image.fromarray(np.zeros((310, 500, 3), np.uint8)).save(photos / "disk/large.jpg")
    there = [*settings(photos, tmp_path / "o"), "data.superpixels=null", "writers.seeds.kind=cam"]
    words = ["task=cls", "prompts=handwritten", "scored=cam"]
    run(train.main, monkeypatch, *words, *there)
    assert "the largest image, disk/large (500x310), is seen as 200x128" in capsys.readouterr().out

    monkeypatch.setattr(image_memory, "find_memory", lambda device: 1 << 28)
    with pytest.raises(ValueError, match=r"the machine has 0\.2: a smaller data\.resize\.longest"):
        run(train.main, monkeypatch, *words, *there, "overwrite=true")
