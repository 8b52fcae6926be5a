"""Photos and classes of any name, from labels to seeds, exports and the report."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import pytest
from fake_trees import draw_image, write_jpeg
from front_door import run
from name_tools import NASTY, write_labels

import infer
from datamodules.images import index_masks
from fmawsss.files.texts import compose

pytestmark = [
    pytest.mark.slow,
    # pycocotools and exporters; see tests/test_exports.py
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

FORBIDDEN = ";"  # separates labels
CLASSES = [name for name in NASTY if not set(FORBIDDEN) & set(name) and name == name.strip()]
CLASSES = [name[:180] for name in {compose(name): name for name in CLASSES}]
IMAGES = [name for name in NASTY if name not in ("a.jpg", "a.b.PNG")]
IMAGES = list({compose(name): unicodedata.normalize("NFD", name) for name in IMAGES}.values())


def test_any_name_goes_through(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/secret")
    for index, name in enumerate(IMAGES):
        write_jpeg(tmp_path / f"photos/{name}.jpg", draw_image(index, (40, 48)))
    chosen = {name: [CLASSES[index % len(CLASSES)]] for index, name in enumerate(IMAGES)}
    write_labels(tmp_path / "labels.csv", {compose(name): word for name, word in chosen.items()})
    run(
        infer.main, monkeypatch,
        "task=cls", "dataset=folder", "dataset.root=photos", "dataset/labels=file",
        "dataset.labels.path=labels.csv", "clip=tiny", "sam=tiny", "prompts=handwritten",
        "data.superpixels=null", "writers.seeds.kind=cam", "scored=cam", "data.workers=0",
        "logger=none", "save_as=[coco,yolo,labelstudio]",
    )  # fmt: skip

    # every image has its seed, and every format names the classes as they are
    seeds = index_masks(tmp_path / "outputs/folder/seeds/coarse")
    assert set(seeds) == set(map(compose, IMAGES))
    exports = tmp_path / "outputs/folder/exports/cls"
    (coco,) = exports.glob("coco/*rle.json")
    expected = sorted({words[0] for words in chosen.values()})
    found = json.loads(coco.read_text(encoding="utf-8"))
    assert sorted(entry["name"] for entry in found["categories"]) == expected
    assert "secret" not in coco.read_text(encoding="utf-8")
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == len(IMAGES) + 1
