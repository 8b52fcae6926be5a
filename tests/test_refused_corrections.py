"""Corrections in files of other tools: bad ones are refused, with the reason."""

from __future__ import annotations

import io
import zipfile
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
from PIL import Image

from stages.exports.labelstudio import encode_brush
from stages.exports.masks import MaskSet


@pytest.fixture
def masks(tmp_path: Path) -> MaskSet:
    return draw_masks(tmp_path)


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
