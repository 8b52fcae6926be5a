"""What a stage made is what later runs find: files that were emptied, cut or edited are noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import lightning as L
import numpy as np
import pytest
from front_door import QUICK, run
from PIL import Image

import infer
import train
from fmawsss.files.contents import read_notes
from fmawsss.files.products import ProductMismatch

TASK_QUICK = ["dataset.train_images=6", "dataset.val_images=3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished pipeline of few images."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        run(train.main, patch, *QUICK, *places(folder))
    return folder


@pytest.fixture
def tree(finished, tmp_path) -> Path:
    """A copy of it to spoil; its files have the times of the copy."""
    shutil.copytree(finished / "data", tmp_path / "data")  # the times of truths count
    shutil.copytree(finished / "outputs", tmp_path / "outputs", copy_function=shutil.copyfile)
    return tmp_path


def places(folder: Path) -> list[str]:
    paths = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    return [*paths, "logger=none", "loading.workers=0"]


def repeat(monkeypatch, folder: Path) -> None:
    run(train.main, monkeypatch, *QUICK, *places(folder))


def read_tree(folder: Path) -> dict[str, bytes]:
    kinds = {".png", ".npz", ".ckpt"}
    files = [path for path in (folder / "outputs/shapes").rglob("*") if path.suffix in kinds]
    files = [path for path in files if "pictures" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def edit(path: Path) -> None:
    mask = np.array(Image.open(path))
    mask[:9, :9] = 1 + mask[:9, :9] % 2
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize("spoil", ["another", "nan"])
def test_superpixels_are_looked_at_before_anything_is_overwritten(tree, monkeypatch, spoil):
    folder = tree / "outputs/shapes/superpixels"
    if spoil == "another":
        shutil.copyfile(folder / "train_00003.npz", folder / "train_00001.npz")
    else:
        folder = shutil.copytree(folder, tree / "own")
        with np.load(folder / "train_00001.npz") as archive:
            arrays = dict(archive)
        arrays["predicted_iou"][0] = np.nan
        np.savez(folder / "train_00001.npz", **arrays)
    before = read_tree(tree)
    other = ["task=cls", "loop.max_steps=2", f"data.superpixels={folder}", "overwrite=true"]
    with pytest.raises((ProductMismatch, ValueError), match=r"train_00001\.npz"):
        run(train.main, monkeypatch, *places(tree), *TASK_QUICK, *other)
    assert read_tree(tree) == before


def test_a_copy_is_complete(tree, monkeypatch):
    monkeypatch.setattr("lightning.Trainer.fit", None)
    monkeypatch.setattr("lightning.Trainer.predict", None)
    repeat(monkeypatch, tree)
    notes = read_notes(tree / "outputs/shapes/seeds/coarse")
    path = tree / "outputs/shapes/seeds/coarse/train_00001.png"
    assert notes["train_00001.png"].modified == path.stat().st_mtime_ns
    assert sorted(notes) == sorted(file.name for file in path.parent.iterdir())


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the tree is a copy
def test_what_was_lost_is_made_again(finished, tree, monkeypatch, capsys):
    work = tree / "outputs/shapes"
    cut_off(work / "seeds/coarse/train_00001.png", 0)
    cut_off(work / "superpixels/train_00002.npz", 300)
    cut_off(work / "masks/val_00000.png", 60)
    cut_off(work / "cls.ckpt", 99)
    (work / "seeds/fine/train_00000.png").unlink()
    repeat(monkeypatch, tree)

    # said, and as before
    said = capsys.readouterr().out
    for fault in ("train_00001.png", "train_00002.npz", "val_00000.png", "cls.ckpt"):
        assert f"made again (1 empty or cut off: {fault})" in said
    assert "made again (1 lost: train_00000.png)" in said
    made, before = read_tree(tree), read_tree(finished)
    assert made.keys() == before.keys()
    assert not [name for name in made if made[name] != before[name] and "/cls.ckpt" not in name]


def cut_off(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_what_was_edited_is_refused(tree, monkeypatch):
    edit(tree / "outputs/shapes/seeds/coarse/train_00001.png")
    before = read_tree(tree)
    with pytest.raises(
        ProductMismatch, match=r"changed since.*train_00001\.png[\s\S]*overwrite=true"
    ):
        repeat(monkeypatch, tree)
    assert read_tree(tree) == before


@pytest.mark.parametrize("spoil", [edit, lambda path: path.write_bytes(b"")])
def test_the_next_stage_notices(tree, monkeypatch, spoil):
    spoil(tree / "outputs/shapes/seeds/fine_memory/train_00001.png")
    settings = ["task=network", "loop.max_steps=3", "save_every=1"]
    with pytest.raises((ValueError, ProductMismatch), match=r"train_00001\.png"):
        run(train.main, monkeypatch, *settings, *QUICK[:2], *places(tree))


def test_what_is_edited_while_a_stage_learns_is_noticed(tree, monkeypatch):
    superpixels, fit = tree / "outputs/shapes/superpixels", L.Trainer.fit

    def fit_and_edit(*arguments, **words) -> None:
        fit(*arguments, **words)
        shutil.copyfile(superpixels / "train_00003.npz", superpixels / "train_00001.npz")

    monkeypatch.setattr("lightning.Trainer.fit", fit_and_edit)
    settings = ["task=seg", "loop.max_steps=1", f"paths.base={tree}/outputs/shapes"]
    settings += [f"paths.work={tree}/fresh", *QUICK[:2], *places(tree)]
    with pytest.raises(ProductMismatch, match=r"train_00001\.npz"):
        run(train.main, monkeypatch, *settings)


def test_a_cut_checkpoint_is_refused_where_nothing_is_left_to_make(tree, monkeypatch):
    path = tree / "outputs/shapes/cls.ckpt"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ProductMismatch, match=r"cls\.ckpt.*cut off.*command that made it"):
        run(infer.main, monkeypatch, "task=cls", *QUICK[:2], *places(tree))


def test_products_without_notes_are_taken_as_they_are(tree, monkeypatch):
    for notes in (tree / "outputs").rglob("*.files.jsonl"):
        notes.unlink()
    edit(tree / "outputs/shapes/seeds/coarse/train_00001.png")
    monkeypatch.setattr("lightning.Trainer.fit", None)
    repeat(monkeypatch, tree)
