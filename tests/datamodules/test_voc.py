from __future__ import annotations

from pathlib import Path

import pytest
from fake_trees import VOC_CLASSES, VOC_IMAGES, VOC_PROMPTS, build_voc_tree, make_voc

from datamodules.labels import LabelsFromMasks, LabelsFromXml
from datamodules.voc import read_split_list


@pytest.mark.parametrize("labels", [LabelsFromMasks(cache=None), LabelsFromXml(difficult=True)])
def test_the_official_tree_is_read(tmp_path: Path, labels: object) -> None:
    root = build_voc_tree(tmp_path)
    records = make_voc(root, labels=labels).read_records("trainaug")
    assert {record.name: record.labels for record in records} == VOC_IMAGES
    assert records[0].image == root / "JPEGImages" / "2007_000032.jpg"
    assert records[0].truth == root / "SegmentationClassAug" / "2007_000032.png"


def test_class_names_are_short_and_prompts_long(tmp_path: Path) -> None:
    module = make_voc(tmp_path, labels=None)
    assert module.classes == VOC_CLASSES
    assert module.prompt_names == VOC_PROMPTS
    assert make_voc(tmp_path, prompt_names=None).prompt_names == VOC_CLASSES


def test_several_splits_hold_each_image_once(tmp_path: Path) -> None:
    module = make_voc(build_voc_tree(tmp_path), labels=LabelsFromXml(difficult=True))
    names = [record.name for record in module.read_records("val, trainaug")]
    assert (
        names
        == [record.name for record in module.read_records(["val", "trainaug"])]
        == list(VOC_IMAGES)
    )


def test_without_data_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"trainaug\.txt does not exist.*VOCtrainval.*dataset\.root"
    ):
        make_voc(tmp_path / "nowhere", labels=None).read_records("trainaug")
    root = build_voc_tree(tmp_path)
    with pytest.raises(FileNotFoundError, match="there are test, trainaug, val"):
        make_voc(root, labels=None).read_records("training")


def test_split_lists_with_paths_and_repetitions(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n\nb.v2\n")
    assert read_split_list(file) == ["2007_000032", "b.v2"]
    file.write_text("\ufeffa b 1\nb 1\n", encoding="utf-8")
    assert read_split_list(file, {"a b 1": Path("a b 1.jpg")}) == ["a b 1", "b"]
    file.write_text("a\nb\na\n")
    with pytest.raises(ValueError, match="names 1 images twice, first 'a'"):
        read_split_list(file)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    root = build_voc_tree(tmp_path)
    (root / "ImageSets" / "Segmentation" / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="split 'none' is empty"):
        make_voc(root, labels=None).read_records("none")
