"""`task=check` counts, finds what is broken, says what to do, and fails only where it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_trees import (
    build_coco_tree,
    build_folder_tree,
    build_official_voc,
    draw_image,
    write_jpeg,
    write_lists,
    write_mask,
    write_voc_xml,
)
from front_door import run
from PIL import Image

import infer

# of pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def check(monkeypatch, folder: Path, *overrides: str) -> None:
    places = [f"paths.data={folder}", f"paths.outputs={folder}/outputs"]
    run(infer.main, monkeypatch, "task=check", "job.workers=0", *places, *overrides)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return build_official_voc(tmp_path)[0]


TRAIN = ["dataset=voc", "dataset.masks=SegmentationClass", "split=train", "dataset/labels=xml"]


def test_a_good_tree_passes(voc: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    check(monkeypatch, tmp_path, *TRAIN, "job.expected.train=1")
    shown = capsys.readouterr().out
    assert "data set, checked" in shown
    assert "nothing to repair" in shown
    assert "no image shows bicycle, bird, boat, bottle, bus, …" in shown


def test_everything_wrong_is_named_at_once(voc: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    write_lists(
        voc / "ImageSets/Segmentation",
        {"train": ["2007_000032", "2007_000033", "2008_000007", "lost"]},
    )
    image = voc / "JPEGImages/2008_000007.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    write_mask(voc / "SegmentationClass/2007_000032.png", np.full((36, 50), 21, np.uint8))
    write_mask(voc / "SegmentationClass/2007_000033.png", np.zeros((50, 36), np.uint8))
    write_voc_xml(voc / "Annotations/2007_000032.xml", [("golem", 0)])
    write_voc_xml(voc / "Annotations/2007_000033.xml", [("yeti", 0)])
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, *TRAIN)
    errors = [line for line in capsys.readouterr().out.splitlines() if " train: " in line]
    for expected in (
        "4 images instead of 1464",
        "2008_000007.jpg cannot be read",
        "lost.jpg does not exist",
        "2007_000032.png holds the value 21",
        "2007_000033.png has the size (50, 36), its image (36, 50)",
        "2007_000032.xml: label 'golem'",
        "2007_000033.xml: label 'yeti'",
    ):
        assert sum(expected in error for error in errors) == 1, (expected, errors)
    assert len(errors) == 8, "seven mistakes, and the remark that an image has no mask"


def test_few_of_many_problems_are_shown(voc: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    write_lists(voc / "ImageSets/Segmentation", {"train": ["a", "b", "c"]})
    with pytest.raises(SystemExit):
        check(
            monkeypatch,
            tmp_path,
            *TRAIN,
            "job.shown=1",
            "job.expected.train=3",
            "dataset/labels=masks",
        )
    assert "and 3 problems more (job.shown=4 shows them)" in capsys.readouterr().out


def test_masks_that_were_not_made_name_the_command(tmp_path: Path, monkeypatch, capsys) -> None:
    build_coco_tree(tmp_path / "coco")
    settings = ["dataset.classes=[person,dog,toothbrush]", "dataset.prompt_names=null"]
    with pytest.raises(SystemExit):
        check(
            monkeypatch,
            tmp_path,
            "dataset=coco",
            *settings,
            "job.expected.train=3",
            "job.expected.val=3",
        )
    shown = capsys.readouterr().out
    assert shown.count("no known labels") == shown.count(
        "make the masks with `python infer.py task=prepare dataset=coco`"
    )
    assert shown.count("no known labels") == 2
    assert "no image shows" not in shown


def test_a_missing_split_names_the_command(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, "dataset=voc")
    assert capsys.readouterr().out.count("task=prepare dataset=voc") == 3


def test_processes_find_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    tree = build_folder_tree(tmp_path / "photos")
    (tree / "cat/b.jpg").write_text("no image")
    write_mask(tmp_path / "masks/cat/a.v2.png", np.zeros((24, 40), np.uint8))
    folder = [
        "dataset=folder",
        f"dataset.root={tree}",
        "dataset/labels=folders",
        f"dataset.masks={tmp_path}/masks",
    ]
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, *folder, "job.workers=2")
    shown = capsys.readouterr().out
    assert shown.count("cannot be read") == shown.count("cat/b.jpg cannot be read") == 1
    assert "2 images have no mask and no score (cat/b, dog/größe 1)" in shown


def test_generated_images_pass(tmp_path: Path, monkeypatch, capsys) -> None:
    few = [
        "dataset.train_images=2",
        "dataset.val_images=1",
        f"paths.data={tmp_path}",
        f"paths.outputs={tmp_path}/o",
    ]
    run(infer.main, monkeypatch, "task=prepare", *few)
    check(monkeypatch, tmp_path, *few[:2])
    assert "nothing to repair" in capsys.readouterr().out


def test_labels_of_no_image_are_remarked(tmp_path: Path, monkeypatch, capsys) -> None:
    tree, file = build_folder_tree(tmp_path / "photos"), tmp_path / "labels.csv"
    folder = [
        "dataset=folder",
        f"dataset.root={tree}",
        "dataset/labels=file",
        f"dataset.labels.path={file}",
    ]
    rows = "name,labels\ncat/a.v2,cat\ncat/b,cat\ndog/größe 1,dog\nlost/image,dog\n"
    file.write_text(rows, encoding="utf-8")
    check(monkeypatch, tmp_path, *folder)
    assert (
        "labels of 1 images that are not there (lost/image): correct the names"
        in capsys.readouterr().out
    )
    file.write_text(f"{rows}cat/b,cat,dog\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, *folder)
    assert "line 6: 'dog' stands outside the column `labels`" in capsys.readouterr().out


def test_a_folder_takes_labels_from_coco_json(tmp_path: Path, monkeypatch, capsys) -> None:
    tree = build_coco_tree(tmp_path / "coco")
    labels = [
        "dataset/labels=coco_json",
        f"dataset.labels.path={tree}/annotations/instances_train2014.json",
    ]
    check(monkeypatch, tmp_path, "dataset=folder", f"dataset.root={tree}/train2014", *labels)
    shown = capsys.readouterr().out
    assert "nothing to repair" in shown
    assert "1 images show no class" in shown


def test_classes_are_shown_with_images_and_sizes(tmp_path: Path, monkeypatch, capsys) -> None:
    tree = build_folder_tree(tmp_path / "photos")
    write_jpeg(tree / "cat" / "large.jpg", draw_image(3, (90, 120)))
    check(monkeypatch, tmp_path, "dataset=folder", f"dataset.root={tree}", "dataset/labels=folders")
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if "│ cat " in line]
    assert "cat/" in row
    assert "to 120x90 pixels" in shown


def test_labels_are_compared_with_masks(tmp_path: Path, monkeypatch, capsys) -> None:
    """Classes that one of both shows alone are counted, with their first images."""
    tree, masks = build_folder_tree(tmp_path / "photos"), tmp_path / "masks"
    for name, value in (("cat/a.v2", 1), ("cat/b", 2), ("dog/größe 1", 2)):
        with Image.open(next(tree.glob(f"{name}.*"))) as image:
            write_mask(masks / f"{name}.png", np.full(image.size[::-1], value, np.uint8))
    folder = ["dataset=folder", f"dataset.root={tree}", "dataset/labels=folders"]
    check(monkeypatch, tmp_path, *folder, f"dataset.masks={masks}")
    shown = capsys.readouterr().out
    assert "labels of 1 of 3 images that their masks do not show: cat 1 (cat/b)" in shown
    assert "masks of 1 of 3 images that show what is not labelled: dog 1 (cat/b)" in shown
    assert "in the order of the mask values" not in shown

    # classes in another order
    check(monkeypatch, tmp_path, *folder, f"dataset.masks={masks}", "dataset.classes=[dog,cat]")
    shown = capsys.readouterr().out
    assert "is dataset.classes in the order of the mask values" in shown
    assert "no file to repair" in shown


def test_a_class_that_no_mask_shows_is_told_with_the_scores(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    tree, masks = build_folder_tree(tmp_path / "photos"), tmp_path / "masks"
    for name in ("cat/a.v2", "cat/b", "dog/größe 1"):
        with Image.open(next(tree.glob(f"{name}.*"))) as image:
            write_mask(masks / f"{name}.png", np.full(image.size[::-1], 1, np.uint8))
    run(
        infer.main, monkeypatch,
        "task=cls", "prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam",
        "clip=tiny", "dataset=folder", f"dataset.root={tree}", "dataset/labels=folders",
        f"dataset.masks={masks}", f"paths.outputs={tmp_path}/out", "logger=none",
        "data.workers=0", "report=none",
    )  # fmt: skip
    said = "cls, all: no mask shows what images are labelled with, dog (1 images)"
    assert said in capsys.readouterr().out


COCO = [
    "dataset=coco", "dataset.classes=[person,dog,toothbrush]", "dataset.prompt_names=null",
    "split=train", "job.expected=null", "dataset/labels=annotations",
]  # fmt: skip


def spoil_coco(root: Path, change: Callable[[dict], object]) -> None:
    """Change the annotations of a tree."""
    path = root / "coco/annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["images"][1].update(height=30, width=20), "its height and width are (30, 20)"),
        (lambda c: c["images"][0].update(height=0), "its height and width are (0, 30)"),
        (lambda c: c["annotations"][0].update(segmentation="abc"), "annotation 1 has the segm"),
        (
            lambda c: c["categories"][0].update(name="dog"),
            "category 'dog' is number 3 in the order",
        ),
        (
            lambda c: [
                c["categories"][0].update(id=0),
                c["annotations"][1].update(category_id=0),
            ],
            "category 'toothbrush' is number 1",
        ),
    ],
    ids=["turned", "no size", "no region", "name twice", "order"],
)
def test_annotations_of_which_no_mask_can_be_made_are_told(
    tmp_path: Path, monkeypatch, capsys, change: Callable[[dict], object], said: str
) -> None:
    """The check says it before masks are made, in the words of the stage that makes them."""
    build_coco_tree(tmp_path / "coco")
    check(monkeypatch, tmp_path, *COCO)
    assert "nothing to repair" in capsys.readouterr().out
    spoil_coco(tmp_path, change)
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, *COCO)
    assert said in capsys.readouterr().out
