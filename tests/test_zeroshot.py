"""CLIP proposes labels for photos without any; a person corrects them; they are read as labels."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch
from front_door import run
from PIL import Image

import infer
import train
from datamodules.label_files import LabelsFromFile
from datamodules.labels import LabelSource
from fmawsss.tiny.shapes import CLASS_NAMES
from lightning_modules.labels import oppose_background

CLASSES = f"dataset.classes=[{','.join(CLASS_NAMES)}]"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight drawn images as a plain folder, with one name that is not ASCII."""
    folder = tmp_path_factory.mktemp("zeroshot")
    with pytest.MonkeyPatch.context() as patch:
        few = ["dataset.train_images=8", "dataset.val_images=1", f"paths.data={folder}/data"]
        run(infer.main, patch, "task=prepare", *few, f"paths.outputs={folder}/o")
    (folder / "photos").mkdir()
    for index, image in enumerate(
        sorted((folder / "data/shapes-0/JPEGImages").glob("train_*.jpg"))
    ):
        Image.open(image).save(folder / "photos" / f"größe {index}.png")
    return folder


def settings(photos: Path, work: Path) -> list[str]:
    here = [
        "dataset=folder",
        f"dataset.root={photos}/photos",
        f"paths.outputs={work}",
        f"paths.data={work}",
    ]
    return [*here, "clip=tiny", "sam=tiny", "logger=none", "data.workers=0"]


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_proposals_are_corrected_and_trained_on(photos: Path, tmp_path: Path, monkeypatch) -> None:
    there, table = settings(photos, tmp_path), tmp_path / "folder/labels.csv"
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    rows = read_rows(table)
    assert list(rows) == [f"größe {index}" for index in range(8)]
    for row in rows.values():
        scores = [float(score) for score in row["scores"].split(";") if score]
        assert scores == sorted(scores, reverse=True)
        assert all(score > 0.5 for score in scores)
        assert len(scores) == len([label for label in row["labels"].split(";") if label]) <= 3
    assert (tmp_path / "folder/pictures/labels.csv.png").is_file()

    # A person corrects the table and forgets a row; only that one is proposed again
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[1:3] = ["größe 0,moon;star,"]
    table.write_text(
        "\n".join(lines), encoding="utf-8"
    )  # without the last line end, as many editors save it
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    again = read_rows(table)
    assert again["größe 0"]["labels"] == "moon;star"
    assert again["größe 1"] == rows["größe 1"]
    assert again["größe 7"] == rows["größe 7"]

    quick = ["loop.max_steps=1", "loop.precision=32", "data.batch_size=2", "data.superpixels=null"]
    quick += ["writers.seeds.kind=cam", "scored=cam"]
    run(train.main, monkeypatch, "task=cls", "dataset/labels=zeroshot", CLASSES, *there, *quick)
    assert len(list((tmp_path / "folder/seeds/coarse").glob("*.png"))) == 8


def test_rows_that_a_kill_left_uncounted_are_not_written_twice(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    there, table = settings(photos, tmp_path), tmp_path / "folder/labels.csv"
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    before = table.read_bytes()
    (journal,) = table.parent.glob("labels.csv.scores.*.jsonl")
    journal.unlink()
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    assert table.read_bytes() == before
    assert journal.is_file()


def test_added_photos_add_rows_and_keep_corrected_ones(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(photos / "photos", tmp_path / "photos")
    (tmp_path / "photos/größe 7.png").rename(tmp_path / "later.png")
    there = settings(tmp_path, tmp_path / "o")
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    table = tmp_path / "o/folder/labels.csv"
    corrected = [*table.read_text(encoding="utf-8").splitlines()[:-1], "größe 6,moon;star,"]
    table.write_text("\n".join(corrected) + "\n", encoding="utf-8")

    (tmp_path / "later.png").rename(tmp_path / "photos/größe 7.png")
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[:-1] == corrected
    assert lines[-1].startswith("größe 7,")

    # Saved by Excel where semicolons separate cells, without the probabilities
    proposed = lines[-1].split(",")[1]
    table.write_text('\ufeffname;labels\r\ngröße 6;"moon;star"', encoding="utf-8", newline="")
    run(infer.main, monkeypatch, "task=labels", CLASSES, *there)
    found = LabelsFromFile(table)(
        ["größe 6"], LabelSource({name: i for i, name in enumerate(CLASS_NAMES)}, {}, None)
    )
    assert len(found) == 8
    assert found["größe 6"] == tuple(sorted(CLASS_NAMES.index(name) for name in ("moon", "star")))
    assert found["größe 7"] == tuple(
        sorted(CLASS_NAMES.index(name) for name in proposed.split(";") if name)
    )


def test_threshold_and_top_k_choose(photos: Path, tmp_path: Path, monkeypatch) -> None:
    there = settings(photos, tmp_path)
    run(
        infer.main,
        monkeypatch,
        "task=labels",
        CLASSES,
        *there,
        "module.threshold=0",
        "module.top_k=2",
    )
    assert all(
        row["labels"].count(";") == 1 for row in read_rows(tmp_path / "folder/labels.csv").values()
    )


def test_the_tiny_clip_names_most_of_what_is_there(tmp_path: Path, monkeypatch) -> None:
    few = [
        "dataset.train_images=30",
        "dataset.val_images=1",
        f"paths.data={tmp_path}",
        f"paths.outputs={tmp_path}/o",
    ]
    run(infer.main, monkeypatch, "task=labels", *few)
    proposed = {
        name: set(row["labels"].split(";"))
        for name, row in read_rows(tmp_path / "o/shapes/labels.csv").items()
    }
    truth = {}
    for name in proposed:
        text = (tmp_path / f"shapes-0/Annotations/{name}.xml").read_text()
        truth[name] = {label for label in CLASS_NAMES if f"<name>{label}</name>" in text}
    hits = sum(len(truth[name] & proposed[name]) for name in truth)
    assert hits / sum(len(labels) for labels in truth.values()) > 0.6
    assert hits / sum(len(labels) for labels in proposed.values()) > 0.6


def test_without_classes_or_proposals_the_command_is_named(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    there = settings(photos, tmp_path)
    with pytest.raises(Exception, match=r"dataset\.classes=\[cat,dog"):
        run(infer.main, monkeypatch, "task=labels", *there)
    with pytest.raises(
        Exception,
        match=r"labels\.csv does not exist; let CLIP.*infer\.py task=labels dataset=folder",
    ):
        run(train.main, monkeypatch, "task=cls", "dataset/labels=zeroshot", *there)


def test_each_class_stands_against_the_background_alone() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.5, 2.0]])
    expected = [torch.tensor([own, 0.5, 2.0]).softmax(0)[0] for own in (1.0, 3.0)]
    assert torch.allclose(oppose_background(logits, 2)[0], torch.stack(expected))


def test_a_proposed_file_is_a_file_of_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,labels,scores\na,cat;dog,0.9;0.6\nb,,\n")
    assert LabelsFromFile(tmp_path / "labels.csv").list_names([]) == ["cat", "dog"]
