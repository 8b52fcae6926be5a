"""Labels as other projects keep them: `cls_labels.npy`, and lists of class numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_trees import OFFICIAL_IMAGES, build_official_voc
from front_door import run

import infer
from datamodules.label_arrays import LabelsFromArrays, number_names
from datamodules.label_files import LabelsFromFile, LabelsFromList
from datamodules.labels import LabelSource

NAMES = ["2007_000032", "2008_000032", "COCO_train2014_000000000009"]
SOURCE = LabelSource({"cat": 0, "dog": 1, "cow": 2}, {}, None)


def mark(*indices: int) -> np.ndarray:
    return np.isin(np.arange(3), indices).astype(np.float32)


@pytest.mark.parametrize(
    "keys",
    [
        NAMES,
        [f"{name}.jpg" for name in NAMES],
        [2007000032, np.int64(2008000032), 9],
        ["2007_000032", 2008000032, np.str_("COCO_train2014_000000000009")],
    ],
    ids=["names", "files", "numbers", "mixed"],
)
def test_arrays_are_labels(keys: list, tmp_path) -> None:
    values = [mark(0), mark(1, 2), mark()]
    np.save(tmp_path / "cls_labels.npy", dict(zip(keys, values, strict=True)))
    found = LabelsFromArrays(tmp_path / "cls_labels.npy")(NAMES, SOURCE)
    assert found == dict(zip(NAMES, [(0,), (1, 2), ()], strict=True))


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"2007_000032": np.zeros(4)}, "2007_000032: 4 numbers, expected 3"),
        ({"2007_000032": np.full(3, 0.5)}, "other than 0 and 1"),
        ({"other": mark(0)}, "names none of the images"),
        ({32: mark(0)}, "names none of the images"),  # of two years
        ({"2007_000032": mark(0), 2007000032: mark(0)}, "two entries of 2007_000032"),
    ],
)
def test_arrays_that_do_not_fit_are_named(saved: dict, told: str, tmp_path) -> None:
    np.save(tmp_path / "cls_labels.npy", saved)
    with pytest.raises(ValueError, match=rf"cls_labels\.npy.*{told}"):
        LabelsFromArrays(tmp_path / "cls_labels.npy")(NAMES, SOURCE)


def test_numbers_that_stand_for_several_names_are_left_out() -> None:
    assert number_names(["a_1", "b_1", "c"]) == {}


def test_class_numbers_count_from_what_is_said(tmp_path) -> None:
    (tmp_path / "labels.txt").write_text("2007_000032.jpg 0 2\n2008_000032 1\n")
    (tmp_path / "labels.csv").write_text("name,labels\n2007_000032,1;3\n2008_000032,2\n")
    expected = {"2007_000032": (0, 2), "2008_000032": (1,)}
    assert LabelsFromList(tmp_path / "labels.txt", count_from=0)(NAMES, SOURCE) == expected
    assert LabelsFromFile(tmp_path / "labels.csv", count_from=1)(NAMES, SOURCE) == expected
    with pytest.raises(ValueError, match="line 1: label '0', expected a class number from 1 to 3"):
        LabelsFromList(tmp_path / "labels.txt", count_from=1)(NAMES, SOURCE)
    with pytest.raises(ValueError, match=r"label '0' is a number.*dataset\.labels\.count_from=0"):
        LabelsFromList(tmp_path / "labels.txt")(NAMES, SOURCE)
    with pytest.raises(ValueError, match="names classes by number"):
        LabelsFromList(tmp_path / "labels.txt", count_from=0).list_names(NAMES)


def test_a_class_may_be_called_by_a_number(tmp_path) -> None:
    (tmp_path / "labels.txt").write_text("2007_000032 7\n")
    source = LabelSource({"7": 0}, {}, None)
    assert LabelsFromList(tmp_path / "labels.txt")(NAMES, source) == {"2007_000032": (0,)}


def test_the_check_of_voc_reads_them(tmp_path: Path, monkeypatch, capsys) -> None:
    build_official_voc(tmp_path)
    labels = {
        name: np.isin(np.arange(20), [value - 1 for value in values]).astype(np.float32)
        for name, (values, _) in OFFICIAL_IMAGES.items()
    }
    np.save(tmp_path / "cls_labels.npy", labels)
    words = [
        "task=check",
        "dataset=voc",
        "dataset.masks=SegmentationClass",
        "split=train",
        "job.workers=0",
        "job.expected.train=1",
        f"paths.data={tmp_path}",
        f"paths.outputs={tmp_path}/outputs",
    ]
    path = f"dataset.labels.path={tmp_path}/cls_labels.npy"
    run(infer.main, monkeypatch, *words, "dataset/labels=npy", path)
    assert "nothing to repair" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(infer.main, monkeypatch, *words, "dataset/labels=file", path)
    assert "dataset/labels=npy reads" in " ".join(capsys.readouterr().out.split())
