"""Corrections in files of other tools: what our exports say comes back, bad ones are refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmawsss.files.png import read_mask, write_palette_png, write_png
from fmawsss.records import ImageRecord
from fmawsss.viz import make_palette
from stages.corrections.archives import open_source
from stages.corrections.formats import choose_reader
from stages.corrections.gather import Gathered, Gatherer
from stages.corrections.names import ImageNames
from stages.exports.labelstudio import LabelStudioTasks, encode_brush
from stages.exports.masks import CvatMasks, MaskSet
from stages.exports.regions import CocoAnnotations

SIZE = (12, 16)
CLASSES = ("cat", "dog")


@pytest.fixture
def masks(tmp_path: Path) -> MaskSet:
    """Two images with masks; the second one is background alone."""
    rng = np.random.default_rng(0)
    images = {}
    for name, values in (("in/a", rng.integers(0, 3, SIZE)), ("b", np.zeros(SIZE))):
        images[name] = tmp_path / "images" / f"{name}.png"
        write_png(images[name], np.zeros((*SIZE, 3), np.uint8))
        mask = values.astype(np.uint8)
        write_palette_png(tmp_path / "masks" / f"{name}.png", mask, make_palette(256))
    return MaskSet(tmp_path / "masks", images, CLASSES, "train")


def gather(
    masks: MaskSet, path: Path, written: str = "auto", outside: int = 0, last: bool = False
) -> tuple[Gathered, dict[str, np.ndarray]]:
    """Read a file of corrections; return what was found, and the masks."""
    folder = path.parent / "taken"
    records = [ImageRecord(name, image) for name, image in masks.images.items()]
    with open_source(path) as source:
        gatherer = Gatherer(records, CLASSES, outside, last, folder)
        found = gatherer.gather(source, choose_reader(source, written))
    return found, {name: read_mask(folder / f"{name}.png") for name in found.rows}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_tasks(path: Path, *tasks: dict) -> Path:
    return write(path, json.dumps(list(tasks)))


def task(image: str, *results: dict, **more: object) -> dict:
    return {"data": {"image": image}, "annotations": [{"result": list(results), **more}]}


def region(kind: str, label: str, **value: object) -> dict:
    size = {"original_height": SIZE[0], "original_width": SIZE[1]}
    return {"type": kind, **size, "value": {kind: [label], **value}}


SQUARE = region("rectanglelabels", "cat", x=0, y=0, width=25, height=25, rotation=0)


def cvat(*shapes: str, name: str = "b.png", size: tuple[int, int] = SIZE) -> str:
    inner = "".join(shapes)
    image = f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">{inner}</image>'
    return f"<annotations><version>1.1</version>{image}</annotations>"


BOX = '<box label="dog" xtl="2" ytl="1" xbr="6" ybr="5"/>'


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


BRUSH = list(encode_brush(np.zeros(SIZE, bool)))
FAR = '<polygon label="cat" points="0,0;1e12,0;0,5"/>'
REFUSED_XML = {
    "a class that is none": (cvat(BOX.replace("dog", "cow")), "'cow' is no class here"),
    "another size": (cvat(BOX, size=(99, 16)), "16x99 there, the image's 16x12"),
    "a size that is none": (cvat(BOX, size=("x", 16)), "invalid literal"),
    "far outside": (cvat(FAR), "far behind"),
    "not a number": (cvat('<polygon label="cat" points="0,0;nan,0;0,5"/>'), "finite"),
    "infinity": (cvat('<box label="cat" xtl="0" ytl="0" xbr="inf" ybr="5"/>'), "finite"),
    "two corners": (cvat('<polygon label="cat" points="0,0;1,1"/>'), "expected 3 to"),
    "no pair": (cvat('<polygon label="cat" points="0,0;1;2,2"/>'), "two finite numbers"),
    "a line": (cvat('<polyline label="cat" points="0,0;1,1"/>'), "covers no pixels"),
    "runs that do not fill": (
        cvat('<mask label="cat" rle="1,1" left="0" top="0" width="2" height="2"/>'),
        "do not fill",
    ),
    "runs below 0": (
        cvat('<mask label="cat" rle="-1,5" left="0" top="0" width="2" height="2"/>'),
        "do not fill",
    ),
    "a mask outside": (
        cvat('<mask label="cat" rle="4" left="15" top="0" width="2" height="2"/>'),
        "leaves its image",
    ),
}
REFUSED_TASKS = {
    "two labels": ({**SQUARE, "value": {"rectanglelabels": ["cat", "dog"]}}, "expected one"),
    "a key point": ({**SQUARE, "type": "keypointlabels"}, "is not read"),
    "a turned image": ({**SQUARE, "image_rotation": 90}, "turn it back"),
    "no percent": (region("rectanglelabels", "cat", x="1", y=0, width=1, height=1), "no pair"),
    "a cut brush": (region("brushlabels", "cat", format="rle", rle=BRUSH[:9]), "cut off"),
    "no bytes": (region("brushlabels", "cat", format="rle", rle=[999, -1]), "list of bytes"),
    "another brush": (region("brushlabels", "cat", format="png", rle=[]), "format `rle`"),
    "no size": ({**SQUARE, "original_width": "wide"}, "of the sizes"),
}


@pytest.mark.parametrize("kind", REFUSED_XML)
def test_shapes_that_are_none_are_refused(masks, tmp_path, kind):
    content, reason = REFUSED_XML[kind]
    found, _ = gather(masks, write(tmp_path / "a.xml", content))
    assert not found.rows
    assert reason in found.refused["b"].refused


@pytest.mark.parametrize("kind", REFUSED_TASKS)
def test_regions_that_are_none_are_refused(masks, tmp_path, kind):
    result, reason = REFUSED_TASKS[kind]
    path = write_tasks(tmp_path / "a.json", task("b.png", result), task("in/a.png", SQUARE))
    found, _ = gather(masks, path)
    assert found.rows.keys() == {"in/a"}
    assert reason in found.refused["b"].refused


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations><image name="&b;"/>'
    "</annotations>"
)
BROKEN = {
    "a.xml": {
        BOMB: "declares a document type",
        cvat(BOX)[:-20]: "not whole XML",
        "<annotation/>": "holds no `image`",
        '<annotations><track id="1"><box/></track></annotations>': "tracks of a video",
    },
    "a.json": {
        '[{"data": {"image": "b.png"}}, ': "no whole list of tasks",
        "[" * 100_000: "no whole list of tasks",
        '{"images": []}': "no list `",
        "": "no whole COCO",
    },
    "a.txt": {"what": "expected what CVAT"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_none_are_refused(masks, tmp_path, name):
    for content, reason in BROKEN[name].items():
        with pytest.raises(ValueError, match=reason):
            gather(masks, write(tmp_path / name, content))


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def encode(values: np.ndarray, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8), mode).save(buffer, "png")
    return buffer.getvalue()


def test_a_path_out_of_an_archive_leads_nowhere(masks, tmp_path):
    mask = encode(np.zeros(SIZE), "L")
    members = {"../../b.png": mask, "/etc/in/a.png": mask, "../outside.png": mask}
    found, taken = gather(masks, pack(tmp_path / "a.zip", members))
    assert taken.keys() == {"b", "in/a"}
    assert found.refused.keys() == {"../outside.png"}
    assert sorted(path.name for path in tmp_path.glob("*")) == ["a.zip", "images", "masks", "taken"]


def test_pngs_of_other_sizes_values_and_kinds_are_refused(masks, tmp_path):
    for data, reason in (
        (encode(np.zeros((5, 5)), "L"), "its size is 5x5, the image's 16x12"),
        (encode(np.full(SIZE, 7), "L"), "holds the value 7"),
        (encode(np.zeros((*SIZE, 3)), "RGB"), "no class mask"),
        (b"no picture", "no PNG"),
    ):
        found, _ = gather(masks, pack(tmp_path / "a.zip", {"b.png": data}))
        assert reason in found.refused["b"].refused


def test_colours_that_no_label_has_are_refused(masks, tmp_path):
    names = b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncow:9,9,9::\n"
    for colour, reason in ((9, "'cow' is no class"), (8, "#080808 is not in labelmap.txt")):
        picture = encode(np.full((*SIZE, 3), colour), "RGB")
        members = {"labelmap.txt": names, "SegmentationClass/b.png": picture}
        found, _ = gather(masks, pack(tmp_path / "a.zip", members))
        assert reason in found.refused["b"].refused


def test_a_polygon_of_millions_of_corners_is_refused(masks, tmp_path):
    points = ";".join(["0,0", "5,0", "5,11"] * 400_000)
    path = write(tmp_path / "a.xml", cvat(f'<polygon label="cat" points="{points}"/>'))
    found, _ = gather(masks, path)
    assert "1200000 corners" in found.refused["b"].refused


def test_an_archive_with_a_password_or_a_broken_one_is_refused(masks, tmp_path):
    path = pack(tmp_path / "a.zip", {"b.png": encode(np.zeros(SIZE), "L")})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 8
    data[place] |= 1  # encrypted, says the directory
    with pytest.raises(ValueError, match="password"):
        gather(masks, write(tmp_path / "b.zip", bytes(data)))
    with pytest.raises(FileNotFoundError, match="corrected="):
        gather(masks, tmp_path / "missing.zip")
