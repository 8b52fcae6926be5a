"""`task=evaluate pred=DIR` scores masks of any origin as other evaluators do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import run
from PIL import Image
from torchmetrics import JaccardIndex

import infer
from fmawsss.files.png import read_mask

CLASSES = 9  # of the generated images, background included


def evaluate(monkeypatch, folder: Path, *words: str) -> dict:
    """Evaluate masks of the val split of generated images; return what is entered."""
    places = [f"paths.data={folder}", f"paths.outputs={folder}/outputs"]
    run(infer.main, monkeypatch, "task=evaluate", "job.workers=0", *places, *IMAGES, *words)
    return json.loads((folder / "outputs/shapes/evaluations.json").read_text())


IMAGES = ["dataset.train_images=6", "dataset.val_images=4"]


@pytest.fixture
def guesses(tmp_path: Path, monkeypatch) -> tuple[list[np.ndarray], list[np.ndarray], Path]:
    """Masks of four images with noise, an absent class that is predicted, and some 255."""
    run(infer.main, monkeypatch, "task=prepare", f"paths.data={tmp_path}", *IMAGES)
    tree = tmp_path / "shapes-0"
    names = (tree / "ImageSets/Segmentation/val.txt").read_text().split()
    truths = [read_mask(tree / f"SegmentationClass/{name}.png") for name in names]

    # masks in grey, as other methods write them
    random = np.random.default_rng(0)
    folder = tmp_path / "masks"
    folder.mkdir()
    found = []
    for name, truth in zip(names, truths, strict=True):
        noise = random.integers(0, CLASSES, truth.shape)
        guess = np.where(random.random(truth.shape) < 0.3, noise, truth % 255).astype(np.uint8)
        Image.fromarray(guess).save(folder / f"{name}.png")
        found.append(guess)
    return truths, found, folder


def count_as_others(truths: list[np.ndarray], guesses: list[np.ndarray]) -> np.ndarray:
    """IoU per class by the histogram that most evaluators of the field share."""
    total = np.zeros((CLASSES, CLASSES))
    for truth, guess in zip(truths, guesses, strict=True):
        valid = truth < CLASSES
        pairs = CLASSES * truth[valid].astype(int) + guess[valid]
        total += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = np.diag(total)
    with np.errstate(invalid="ignore"):
        return hits / (total.sum(1) + total.sum(0) - hits)


def test_scores_are_those_of_other_evaluators(guesses, tmp_path, monkeypatch, capsys) -> None:
    truths, found, folder = guesses
    scores = evaluate(monkeypatch, tmp_path, f"pred={folder}")[str(folder)]["val"]["masks"]
    expected = count_as_others(truths, found)
    assert [*scores["iou"].values()] == expected.tolist()
    assert scores["miou_seen"] == pytest.approx(np.nanmean(expected), abs=1e-15)

    # and of torchmetrics
    index = JaccardIndex("multiclass", num_classes=CLASSES, ignore_index=255, average="none")
    for truth, guess in zip(truths, found, strict=True):
        index.update(torch.from_numpy(guess).int(), torch.from_numpy(truth).int())
    assert [*scores["iou"].values()] == pytest.approx(index.compute().tolist(), abs=1e-6)
    assert "over the 9 that truths or masks show" in capsys.readouterr().out


def test_absent_classes_and_255_are_told(guesses, tmp_path, monkeypatch, capsys) -> None:
    truths, _, folder = guesses
    for file, truth in zip(sorted(folder.iterdir()), truths, strict=True):
        guess = truth.copy()
        guess[:10] = 255
        Image.fromarray(guess).save(file)
    scores = evaluate(monkeypatch, tmp_path, f"pred={folder}")[str(folder)]["val"]["masks"]
    shown = [name for name, present in scores["present"].items() if present]
    assert len(shown) < CLASSES  # four images do not show all
    known = sum(scores["iou"][name] for name in shown)
    assert scores["miou"] == scores["miou_seen"] == pytest.approx(known / len(shown))
    assert scores["miou_all"] == pytest.approx(known / CLASSES)
    captured = capsys.readouterr()
    assert "are predicted as 255 or as no class" in captured.out + captured.err


def test_processes_and_a_second_folder(guesses, tmp_path, monkeypatch) -> None:
    *_, folder = guesses
    one = evaluate(monkeypatch, tmp_path, f"pred={folder}")
    shutil.copytree(folder, tmp_path / "others")
    both = evaluate(monkeypatch, tmp_path, f"pred={tmp_path}/others", "job.workers=2")
    assert both[f"{tmp_path}/others"] == one[str(folder)] == both[str(folder)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "lacks the masks of 1 of 4 images of val"),
        ("empty", "holds no masks, expected one <name>.png per image"),
        ("size", "has the size"),
        ("colour", "colour"),
        ("typed", "pred has no value"),
    ],
)
def test_bad_masks_are_named(guesses, tmp_path, monkeypatch, fault: str, words: str) -> None:
    *_, folder = guesses
    first = min(folder.iterdir())
    if fault == "missing":
        first.unlink()
    if fault == "empty":
        shutil.rmtree(folder)
    if fault == "size":
        Image.new("L", (7, 9)).save(first)
    if fault == "colour":
        Image.fromarray(np.zeros((112, 112, 3), np.uint8)).save(first)
    typed = [] if fault == "typed" else [f"pred={folder}"]
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        evaluate(monkeypatch, tmp_path, *typed)
    assert not (tmp_path / "outputs/shapes/evaluations.json").exists()
