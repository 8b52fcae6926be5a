"""Corrections in files of other tools: what our exports say comes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from correction_tools import (
    BOX,
    SIZE,
    SQUARE,
    cvat,
    draw_masks,
    gather,
    region,
    task,
    write,
    write_tasks,
)

from fmawsss.files.png import read_mask
from stages.corrections.names import ImageNames
from stages.exports.labelstudio import LabelStudioTasks
from stages.exports.masks import CvatMasks, MaskSet
from stages.exports.regions import CocoAnnotations


@pytest.fixture
def masks(tmp_path: Path) -> MaskSet:
    return draw_masks(tmp_path)


def test_what_coco_holds_of_our_masks_comes_back(masks, tmp_path):
    CocoAnnotations(tmp_path)(masks)
    for kind in ("rle", "polygons"):
        found, taken = gather(masks, tmp_path / f"instances_{kind}.json")
        np.testing.assert_array_equal(taken["in/a"], read_mask(masks.folder / "in/a.png"))
        assert found.untouched == {"b"}  # nothing was drawn on it


def test_what_cvat_holds_of_our_masks_comes_back(masks, tmp_path):
    CvatMasks(tmp_path / "cvat.zip")(masks)
    _, taken = gather(masks, tmp_path / "cvat.zip")
    for name, mask in taken.items():
        np.testing.assert_array_equal(mask, read_mask(masks.folder / f"{name}.png"))
    assert len(taken) == 2


def test_what_label_studio_holds_of_our_masks_comes_back_once_a_person_says_so(masks, tmp_path):
    LabelStudioTasks(tmp_path, "/data/local-files/?d=")(masks)
    path = tmp_path / "tasks.json"
    found, _ = gather(masks, path)
    assert found.untouched == {"in/a", "b"}
    assert not found.rows  # predictions are nobody's word
    tasks = json.loads(path.read_text())
    for one in tasks:
        one["annotations"] = one.pop("predictions")
    _, taken = gather(masks, write_tasks(path, *tasks))
    for name, mask in taken.items():
        np.testing.assert_array_equal(mask, read_mask(masks.folder / f"{name}.png"))
    assert len(taken) == 2


def test_a_folder_of_indexed_pngs_comes_back(masks):
    _, taken = gather(masks, masks.folder)
    for name, mask in taken.items():
        np.testing.assert_array_equal(mask, read_mask(masks.folder / f"{name}.png"))


def test_shapes_of_cvat_are_drawn_in_their_order(masks, tmp_path):
    polygon = '<polygon label="cat" points="4,0;8,0;8,4;4,4" z_order="1"/>'
    mask = '<mask label="cat" rle="1, 2, 1" left="14" top="10" width="2" height="2"/>'
    ellipse = '<ellipse label="dog" cx="3" cy="9" rx="2" ry="1"/>'
    path = write(tmp_path / "a.xml", cvat(polygon, BOX, mask, ellipse))
    found, taken = gather(masks, path)
    expected = np.zeros(SIZE, np.uint8)
    expected[1:5, 2:6] = 2
    expected[:4, 4:8] = 1  # above, by its z_order
    expected[10, 15] = expected[11, 14] = 1
    rows, columns = np.mgrid[:12, :16] + 0.5
    expected[((columns - 3) / 2) ** 2 + (rows - 9) ** 2 <= 1] = 2
    np.testing.assert_array_equal(taken["b"], expected)
    assert found.rows["b"].overdrawn == "6"
    assert found.rows["b"].classes == "background;cat;dog"


def test_shapes_of_label_studio_are_drawn_in_percent(masks, tmp_path):
    points = [[50, 50], [100, 50], [100, 100], [50, 100]]
    polygon = region("polygonlabels", "dog", points=points)
    turned = region("rectanglelabels", "cat", x=50, y=0, width=25, height=25, rotation=90)
    path = write_tasks(tmp_path / "a.json", task("b.png", SQUARE, polygon, turned))
    _, taken = gather(masks, path)
    expected = np.zeros(SIZE, np.uint8)
    expected[:3, :4], expected[6:, 8:] = 1, 2
    expected[:4, 5:8] = 1  # 4 x 3 pixels, about its upper left corner (8, 0)
    np.testing.assert_array_equal(taken["b"], expected)


def test_what_is_not_drawn_is_left_alone_where_the_user_says_so(masks, tmp_path):
    path = write(tmp_path / "a.xml", cvat(BOX))
    _, taken = gather(masks, path, outside=255)
    expected = np.full(SIZE, 255)
    expected[1:5, 2:6] = 2
    np.testing.assert_array_equal(taken["b"], expected)


def test_two_masks_of_one_image_are_refused_or_the_last_counts(masks, tmp_path):
    second = region("rectanglelabels", "dog", x=0, y=0, width=25, height=25)
    tasks = [task("b.png", SQUARE), task("b.png", second), task("in/a.png", SQUARE)]
    path = write_tasks(tmp_path / "a.json", *tasks)
    found, _ = gather(masks, path)
    assert found.rows.keys() == {"in/a"}
    assert "corrected_wins=last" in found.refused["b"].refused
    found, taken = gather(masks, path, last=True)
    assert taken["b"][0, 0] == 2
    assert found.replaced == 1
    assert not gather(masks, write_tasks(path, task("b.png", SQUARE), task("b.png", SQUARE)))[
        0
    ].refused


def test_images_are_found_by_what_tools_make_of_their_names():
    names = ImageNames(["in/a", "b", "c d"])
    for written in ("in/a", "in/a.jpg", "/mnt/photos/in/a.png", "in__a.png", "in\\a.jpg"):
        assert names.find(written) == "in/a"
    assert names.find("upload/1/0badcafe-b.png") == "b"
    assert names.find("c d.jpeg") == "c d"
    assert names.find("../../etc/passwd") is None
    assert names.find("a.png") is None
