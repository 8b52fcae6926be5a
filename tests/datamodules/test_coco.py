from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_trees import build_coco_tree, make_training, make_whole, write_mask

from datamodules.coco import CocoDataModule, LabelsFromAnnotations, LabelsFromCocoJson
from datamodules.coco_annotations import paint_mask, read_annotations
from datamodules.coco_regions import decode_region
from datamodules.folder import FolderDataModule
from datamodules.labels import LabelsFromMasks, LabelSource
from fmawsss.files.png import read_mask

# pycocotools 2.0.11 decodes through an array interface that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

TRUTHS = make_whole("train", truths=True)
CLASSES = ("person with clothes", "dog", "toothbrush")
FIRST, SECOND, BARE = (f"COCO_train2014_{number:012d}" for number in (9, 25, 30))


def make_coco(root: Path, **changes: Any) -> CocoDataModule:
    settings = {
        "classes": CLASSES,
        "labels": LabelsFromAnnotations(),
        "labelled": True,
        "masks": None,
    }
    views = {"training": make_training("train")}
    return CocoDataModule(
        root=root, year=2014, cache=root / "cache", **{**settings, **views, **changes}
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return build_coco_tree(tmp_path / "coco")


def test_labels_come_from_the_annotations(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = make_coco(tree)
    module.prepare_data()
    records = module.read_records("train")
    assert {record.name: record.labels for record in records} == {
        FIRST: (0, 1, 2),
        SECOND: (1,),
        BARE: (),
    }
    assert records[0].image == tree / "train2014" / f"{FIRST}.jpg"
    assert not (tree / "cache" / "masks_train2014").exists()
    module.setup("fit")
    assert caplog.messages == [f"1 images without any label are left out of training: {BARE}"]


def test_masks_show_small_over_large_and_objects_over_crowds(tree: Path) -> None:
    module = make_coco(tree, labels=LabelsFromMasks(cache=None))
    module.prepare_data()
    records = module.read_records("train")
    assert {record.name: record.labels for record in records} == {
        FIRST: (0, 1, 2),
        SECOND: (1,),
        BARE: (),
    }
    mask = read_mask(records[0].truth)
    expected = np.zeros((20, 30), np.uint8)
    expected[:, :20] = 2  # the crowd of dogs
    expected[2:16, 2:18] = 1  # the person
    expected[4:8, 4:8] = expected[4:6, 10:12] = 3  # the toothbrush, in two pieces
    assert (mask == expected).all()
    assert read_mask(records[2].truth).max() == 0


def test_compressed_run_lengths_read_the_same(tree: Path) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    annotations = read_annotations(tree / "annotations" / "instances_train2014.json")
    image = annotations.images[0]
    with annotations.open_regions() as read:
        regions, packed = read(image), read(image)
    packed[2]["segmentation"] = rle.frPyObjects(packed[2]["segmentation"], *image.size)
    expected = paint_mask(image.size, regions, annotations.classes)
    assert (paint_mask(image.size, packed[::-1], annotations.classes) == expected).all()


def spoil(tree: Path, number: int, **changes: Any) -> CocoDataModule:
    """Change one annotation of train; None takes an entry away."""
    file = tree / "annotations" / "instances_train2014.json"
    content = json.loads(file.read_text())
    region = {**content["annotations"][number], **changes}
    content["annotations"][number] = {
        key: value for key, value in region.items() if value is not None
    }
    file.write_text(json.dumps(content))
    return make_coco(tree, whole=TRUTHS)


def test_an_area_that_is_missing_is_counted(tree: Path) -> None:
    make_coco(tree, whole=TRUTHS).prepare_data()
    path = tree / "cache" / "masks_train2014" / f"{FIRST}.png"
    expected = read_mask(path).tolist()
    for number in range(2):
        spoil(tree, number, area=None).prepare_data()
        assert read_mask(path).tolist() == expected


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (
            0,
            {"segmentation": None},
            "annotation 1 has the segmentation None, expected polygons or an RLE",
        ),
        (0, {"segmentation": [["a"] * 8]}, r"annotation 1 has the segmentation \[\['a', "),
        (
            2,
            {"segmentation": {"size": [20, 30]}},
            "annotation 3 has the segmentation.*has no 'counts'",
        ),
        (
            2,
            {"segmentation": {"counts": [600], "size": [10, 10]}},
            r"size \[10, 10\], its image \[20, 30\]",
        ),
        (
            2,
            {"segmentation": {"counts": [5], "size": [20, 30]}},
            "annotation 3 has the segmentation",
        ),
    ],
)
def test_bad_regions_are_named(tree: Path, number: int, changes: dict, message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"instances_train2014\.json, image {FIRST}\.jpg: .*{message}"
    ):
        spoil(tree, number, **changes).prepare_data()


@pytest.mark.parametrize("category", [5, None])
def test_a_region_of_an_unknown_category_is_named(tree: Path, category: int | None) -> None:
    with pytest.raises(
        ValueError,
        match=rf"annotation 2 of image 9 has the category_id {category}, expected one of",
    ):
        spoil(tree, 1, category_id=category).prepare_data()


def test_a_stopped_conversion_goes_on_and_changed_annotations_start_anew(tree: Path) -> None:
    folder = tree / "cache" / "masks_train2014"
    module = make_coco(tree, whole=TRUTHS)
    module.read_records("train")
    write_mask(folder / f"{FIRST}.png", np.full((20, 30), 3, np.uint8))
    module.prepare_data()
    assert len(list(folder.iterdir())) == 3
    assert read_mask(folder / f"{FIRST}.png").min() == 3

    file = tree / "annotations" / "instances_train2014.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    make_coco(tree, whole=TRUTHS).prepare_data()
    assert read_mask(folder / f"{FIRST}.png").min() == 0


def test_validation_gets_masks(tree: Path) -> None:
    module = make_coco(tree, validation=make_whole("val"))
    module.prepare_data()
    module.setup("validate")
    truths = {batch.names[0]: batch.truths[0] for batch in module.val_dataloader()}
    assert truths["COCO_val2014_000000000025"].unique().tolist() == [0, 2]


def test_masks_can_be_made_for_splits_that_nothing_looks_at(tree: Path) -> None:
    module = make_coco(tree, training=None, labelled=False)
    module.prepare_data()
    assert not (tree / "cache").exists()
    module.make_masks("train,val")
    assert [len(list(module.find_mask_folder(s).iterdir())) for s in ("train", "val")] == [3, 3]


def test_masks_of_another_conversion_go_by_name_or_number(tree: Path) -> None:
    for name in (FIRST, "000000000025"):
        write_mask(tree / "others" / f"{name}.png", np.ones((20, 30), np.uint8))
    module = make_coco(tree, masks=tree / "others", whole=TRUTHS)
    module.prepare_data()
    found = {record.name: record.truth for record in module.read_records("train")}
    assert found == {
        FIRST: tree / "others" / f"{FIRST}.png",
        SECOND: tree / "others" / "000000000025.png",
        BARE: None,
    }


def test_masks_of_category_ids_are_renumbered(tree: Path) -> None:
    others = tree / "others"
    write_mask(others / f"{FIRST}.png", np.tile(np.array([0, 1, 18, 90, 255], np.uint8), (20, 6)))
    write_mask(others / f"{BARE}.png", np.full((20, 30), 17, np.uint8))
    module = make_coco(tree, masks=others, masks_hold_ids=True, whole=TRUTHS)
    module.prepare_data()
    truths = {record.name: record.truth for record in module.read_records("train")}
    assert truths[SECOND] is None
    assert np.unique(read_mask(truths[FIRST])).tolist() == [0, 1, 2, 3, 255]
    assert (read_mask(truths[FIRST])[0, :5] == [0, 1, 2, 3, 255]).all()
    assert read_mask(truths[BARE]).min() == 254, (
        "17 is no category: reading it as a truth names the file"
    )
    module.setup("predict")
    with pytest.raises(ValueError, match=rf"{BARE}\.png holds the value 254"):
        list(module.predict_dataloader())


def test_renumbered_masks_belong_to_their_folder_and_follow_it(tree: Path) -> None:
    def read_value(folder: str, prepare: bool = True) -> int | None:
        settings = {
            "masks": tree / folder,
            "masks_hold_ids": True,
            "whole": TRUTHS,
        }
        module = make_coco(tree, **settings)
        if prepare:
            module.prepare_data()
        truth = module.read_records("train")[0].truth
        return None if truth is None else int(read_mask(truth).max())

    for folder, value in (("c1", 1), ("c2", 90)):
        write_mask(tree / folder / f"{FIRST}.png", np.full((20, 30), value, np.uint8))
    assert [
        read_value("c1"),
        read_value("c2", prepare=False),
        read_value("c2"),
        read_value("c1"),
    ] == [1, None, 3, 1]

    write_mask(tree / "c1" / f"{FIRST}.png", np.full((20, 30), 18, np.uint8))
    os.utime(tree / "c1" / f"{FIRST}.png", (1e9, 1e9))  # as an archive would unpack it
    assert [read_value("c1", prepare=False), read_value("c1"), read_value("c2")] == [None, 2, 3]
    (tree / "c2" / f"{FIRST}.png").unlink()
    assert read_value("c2") is None


def test_the_test_split_has_no_labels(tree: Path) -> None:
    annotations = json.loads((tree / "annotations" / "instances_train2014.json").read_text())
    del annotations["annotations"]
    (tree / "annotations" / "image_info_test2014.json").write_text(
        json.dumps(annotations).replace("train", "test")
    )
    (tree / "train2014").rename(tree / "test2014")
    for image in (tree / "test2014").iterdir():
        image.rename(image.with_name(image.name.replace("train", "test")))
    assert [record.labels for record in make_coco(tree, labelled=False).read_records("test")] == [
        None
    ] * 3
    module = make_coco(tree, labelled=False, training=None, whole=make_whole("test", truths=True))
    module.prepare_data()
    assert [record.truth for record in module.read_records("test")] == [None] * 3
    with pytest.raises(ValueError, match="3 of 3 images of split 'test' have no known labels"):
        make_coco(tree).read_records("test")


def test_bad_trees_are_explained(tree: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"instances_minival2014\.json.*instances_train2014.*annotations_trainval2014",
    ):
        make_coco(tree).read_records("minival")
    with pytest.raises(ValueError, match="has 3 categories, the data set 2 classes"):
        make_coco(tree, classes=CLASSES[:2]).read_records("train")
    (tree / "annotations" / "instances_val2014.json").write_text('{"images": [')
    with pytest.raises(
        ValueError, match=r"instances_val2014\.json is no whole COCO annotation file"
    ):
        make_coco(tree).read_records("val")


def test_a_folder_takes_labels_from_coco_json(tree: Path) -> None:
    labels = LabelsFromCocoJson(tree / "annotations" / "instances_train2014.json")
    settings = {"labels": labels, "labelled": True, "masks": None, "classes": None}
    module = FolderDataModule(root=tree / "train2014", frames=tree, frame_step=1, **settings)
    assert module.classes == ("dog", "person", "toothbrush")
    assert {r.name: r.labels for r in module.read_records("all")} == {
        FIRST: (0, 1, 2),
        SECOND: (0,),
        BARE: (),
    }


def test_annotations_of_images_that_are_not_listed_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, region = tmp_path / "instances.json", {"id": 1, "image_id": 7, "category_id": 1}
    path.write_text(
        json.dumps(
            {"images": [], "annotations": [region], "categories": [{"id": 1, "name": "cat"}]}
        )
    )
    with caplog.at_level("WARNING"):
        assert read_annotations(path).images == []
    assert "instances.json: 1 annotations belong to images that it does not list" in caplog.text


def write_labels(folder: Path, images: list, annotations: list, categories: list) -> Path:
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def test_entries_of_one_file_are_united_and_ids_are_texts_or_numbers(tmp_path: Path) -> None:
    path = write_labels(
        tmp_path,
        [
            {"id": "a", "file_name": "x.jpg"},
            {"id": 7, "file_name": "x.jpg"},
            {"id": 8, "file_name": 2024},
        ],
        [{"image_id": "a", "category_id": "2"}, {"image_id": "7", "category_id": 10}],
        [{"id": 10, "name": 5}, {"id": 2, "name": "${oc.env:HOME}"}],
    )
    found = read_annotations(path)
    assert found.names == ["${oc.env:HOME}", "5"]  # 2 stands before 10
    with found.open_regions() as read:
        assert [(image.file, read(image)) for image in found.images] == [
            (
                "x.jpg",
                [{"image_id": "a", "category_id": "2"}, {"image_id": "7", "category_id": 10}],
            ),
            ("2024", []),
        ]
    labels = LabelsFromCocoJson(path)
    assert labels.list_names([]) == ["${oc.env:HOME}", "5"]
    classes = {"${oc.env:HOME}": 0, "5": 1}
    assert labels(["x"], LabelSource(classes, {}, None)) == {"x": (0, 1), "2024": ()}


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (40, 3)])
def test_run_lengths_are_decoded_as_pycocotools_does(shape: tuple[int, int]) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    noise = np.random.default_rng(0).random((20, *shape)) < np.linspace(0, 1, 20)[:, None, None]
    for mask in noise:
        packed = rle.encode(np.asfortranarray(mask, np.uint8))
        assert (decode_region({"segmentation": packed}, shape) == mask).all()
        packed["counts"] = packed["counts"].decode()
        assert (decode_region({"segmentation": packed}, shape) == mask).all()


def test_an_older_index_is_made_anew_and_its_masks_stay(tree: Path) -> None:
    make_coco(tree, whole=TRUTHS).prepare_data()
    index, mask = tree / "cache/index_train2014.json", tree / f"cache/masks_train2014/{FIRST}.png"
    content = json.loads(index.read_text())
    version, _, rest = content["stamp"].partition(" ")
    old = {**content, "stamp": f"{int(version) - 1} {rest}", "images": [["../../x.jpg", [0]]]}
    index.write_text(json.dumps(old))
    before = mask.stat().st_mtime_ns
    make_coco(tree, whole=TRUTHS).prepare_data()
    assert json.loads(index.read_text()) == content
    assert mask.stat().st_mtime_ns == before


def test_an_annotation_file_that_changes_while_masks_are_made_stops_them(tree: Path) -> None:
    path = tree / "annotations" / "instances_train2014.json"
    annotations = read_annotations(path)
    path.write_text(path.read_text() + " ")
    with (
        pytest.raises(ValueError, match=r"instances_train2014\.json was changed meanwhile"),
        annotations.open_regions(),
    ):
        pass


def test_no_region_is_held(tmp_path: Path) -> None:
    """A file of 20 MB of regions is read in a quarter of that, whatever order its lists have."""
    outline = [[float(number) for number in range(1000)]]
    regions = [
        {"id": n, "image_id": n % 50, "category_id": 1, "segmentation": outline}
        for n in range(3000)
    ]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(50)]
    content = {"annotations": regions, "images": images, "categories": [{"id": 1, "name": "cat"}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    tracemalloc.start()
    found = read_annotations(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
    assert [image.shown for image in found.images] == [(0,)] * 50
    with found.open_regions() as read:
        assert read(found.images[7]) == regions[7::50]
