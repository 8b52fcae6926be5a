"""A split may be a list of images anywhere: `split=lists/few.txt`."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_trees import build_coco_tree, build_folder_tree, build_official_voc, make_training
from front_door import run

import infer
from datamodules.coco import CocoDataModule, LabelsFromAnnotations
from datamodules.labels import LabelsFromMasks

# of pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CLASSES = ("person with clothes", "dog", "toothbrush")
FIRST, SECOND = "COCO_train2014_000000000009", "COCO_train2014_000000000025"


def make_coco(folder: Path, split: Path, **changes) -> CocoDataModule:
    tree = folder / "coco"
    settings = {
        "root": tree,
        "year": 2014,
        "cache": tree / "cache",
        "masks": None,
        "classes": CLASSES,
        "labels": LabelsFromAnnotations(),
        "labelled": True,
        "splits": {"all": ["train", "val"]},  # there is no val
        "training": make_training(str(split)),
    }
    return CocoDataModule(**{**settings, **changes})


@pytest.mark.parametrize("lines", [f"{SECOND}\n{FIRST}\n", f"{SECOND}.jpg\n9\n", "000000000025\n9"])
def test_lists_of_coco(lines: str, tmp_path) -> None:
    build_coco_tree(tmp_path / "coco")
    (tmp_path / "few.txt").write_text(lines)
    module = make_coco(tmp_path, tmp_path / "few.txt")
    module.prepare_data()
    records = module.read_records(str(tmp_path / "few.txt"))
    assert {record.name: record.labels for record in records} == {SECOND: (1,), FIRST: (0, 1, 2)}
    assert [record.name for record in records] == [SECOND, FIRST]


def test_masks_of_a_list_are_made_alone(tmp_path) -> None:
    tree = build_coco_tree(tmp_path / "coco")
    (tmp_path / "few.txt").write_text("9\n")
    labels = LabelsFromMasks(cache=None)
    make_coco(tmp_path, tmp_path / "few.txt", labels=labels).prepare_data()
    assert [file.stem for file in (tree / "cache/masks_train2014").iterdir()] == [FIRST]
    whole = make_coco(tmp_path, Path("train"), labels=labels)
    whole.prepare_data()
    assert len(list((tree / "cache/masks_train2014").iterdir())) == 3


def test_a_list_of_other_images_is_refused(tmp_path) -> None:
    build_coco_tree(tmp_path / "coco")
    (tmp_path / "few.txt").write_text("9\n7\n")
    module = make_coco(tmp_path, tmp_path / "few.txt", splits={"all": ["train"]})
    with pytest.raises(
        ValueError, match=r"few\.txt names 1 images that are in no split, first '7'"
    ):
        module.prepare_data()


def check(monkeypatch, tmp_path: Path, *words: str) -> None:
    places = [f"paths.data={tmp_path}", f"paths.outputs={tmp_path}/outputs"]
    run(infer.main, monkeypatch, "task=check", "job.workers=0", *places, *words)


def test_lists_of_voc(tmp_path, monkeypatch, capsys) -> None:
    build_official_voc(tmp_path)
    (tmp_path / "few.txt").write_text("/JPEGImages/2007_000032.jpg /x/2007_000032.png\n")
    words = ["dataset=voc", "dataset.masks=SegmentationClass", "dataset/labels=xml"]
    check(monkeypatch, tmp_path, *words, f"split={tmp_path}/few.txt")
    assert "nothing to repair" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, *words, f"split={tmp_path}/none.txt")
    assert "none.txt: there is no such list" in "".join(capsys.readouterr().out.split("\n"))


def test_lists_of_a_folder(tmp_path, monkeypatch, capsys) -> None:
    build_folder_tree(tmp_path / "photos")
    (tmp_path / "few.txt").write_text("cat/b.jpg\n")
    words = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset/labels=folders"]
    check(monkeypatch, tmp_path, *words, f"split={tmp_path}/few.txt")
    assert "nothing to repair" in capsys.readouterr().out
