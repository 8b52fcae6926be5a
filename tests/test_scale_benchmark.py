from __future__ import annotations

from pathlib import Path

import benchmarks.scale
from benchmarks.scale_trees import CLASSES, REGIONS, build_coco, build_folder, build_voc
from datamodules.coco_annotations import read_annotations
from datamodules.images import index_images
from datamodules.voc import read_split_list


def test_trees_hold_as_many_images_as_asked(tmp_path: Path) -> None:
    build_coco(tmp_path / "coco", 70)
    assert len(index_images(tmp_path / "coco/train2014")) == 70
    found = read_annotations(tmp_path / "coco/annotations/instances_val2014.json")
    assert len(found.images) == 35
    assert len(found.names) == CLASSES
    with found.open_regions() as read:
        assert all(len(read(image)) == REGIONS for image in found.images)

    build_voc(tmp_path / "voc", 70)
    lists = tmp_path / "voc/ImageSets/Segmentation"
    assert read_split_list(lists / "trainaug.txt") == sorted(
        index_images(tmp_path / "voc/JPEGImages")
    )
    assert len(read_split_list(lists / "val.txt")) == 35

    build_folder(tmp_path / "photos", 8)
    assert len(list((tmp_path / "photos").glob("*/*.jpg"))) == 8


def test_growth_is_that_of_each_image_more() -> None:
    small = benchmarks.scale.Cost(seconds=9, processor=5, peak_gb=1, operations=1000)
    large = benchmarks.scale.Cost(seconds=99, processor=6, peak_gb=2, operations=4000)
    row = benchmarks.scale.describe_growth(2000, large, (1000, small))
    assert row == " 1.00 | 1048.6 | 3.0 |"


def test_calls_of_a_table_of_strace_are_summed() -> None:
    table = (
        "% time     seconds  usecs/call     calls    errors syscall\n"
        "------ ----------- ----------- --------- --------- ----------------\n"
        " 60.00    0.000003           1        20         3 openat\n"
        " 40.00    0.000002           1        10           newfstatat\n"
        "100.00    0.000005           1        30         3 total\n"
    )
    assert benchmarks.scale.count_calls(table) == 30
