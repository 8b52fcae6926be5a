"""COCO from its official archives to seeds, through the front door, by tiny models."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from fake_trees import build_coco_tree
from front_door import run
from published_tools import TINY, TOWER, digest, places, shorten

import infer
import train

# pycocotools 2.0.11 decodes through an array interface that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


def pack_coco(folder: Path) -> list[str]:
    downloads = folder / "data" / "downloads"
    downloads.mkdir(parents=True)
    tree = build_coco_tree(folder / "tree")
    settings = ["dataset.classes=[person,dog,toothbrush]", "dataset.prompt_names=null"]
    for part, name in (
        ("train2014", "train2014"),
        ("val2014", "val2014"),
        ("annotations", "annotations_trainval2014"),
    ):
        with zipfile.ZipFile(downloads / f"{name}.zip", "w") as archive:
            for file in sorted((tree / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
        settings += [
            f"job.archives.{part}.size=null",
            f"job.archives.{part}.md5={digest(downloads / f'{name}.zip')}",
        ]
    return settings


def test_the_published_coco_pipeline(tmp_path: Path, monkeypatch, capsys) -> None:
    settings = pack_coco(tmp_path)
    with pytest.raises(ValueError, match=r"train2014 holds 3 images, expected 82783.*task=prepare"):
        run(infer.main, monkeypatch, "task=prepare", "dataset=coco", *settings, *places(tmp_path))
    count = ["job.images.train2014=3", "job.images.val2014=3"]
    run(
        infer.main,
        monkeypatch,
        "task=prepare",
        "dataset=coco",
        *settings,
        *count,
        *places(tmp_path),
    )
    assert (
        len(list((tmp_path / "outputs/coco/masks_from_annotations/masks_val2014").glob("*.png")))
        == 3
    )
    assert "masks of train" in capsys.readouterr().out

    # the tiny CLIP knows no class of COCO: its seeds are background, which would be refused
    monkeypatch.setattr("datamodules.view_checks.require_shown", lambda *_: None)
    there = [*places(tmp_path), *TINY, *settings[:2]]
    run(
        train.main,
        monkeypatch,
        "experiment=coco",
        TOWER,
        *there,
        *shorten(("cls", "seg", "network")),
    )
    assert len(list((tmp_path / "outputs/coco/seeds/fine").glob("*.png"))) == 3
    scores = json.loads((tmp_path / "outputs/coco/scores.json").read_text())
    assert set(scores["seg"]["train"]["sams"]["iou"]) == {
        "background",
        "person",
        "dog",
        "toothbrush",
    }
