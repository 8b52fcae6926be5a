"""Objects one by one: listed, kept on request, and exported as COCO's annotations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", minversion="5.0")

from front_door import run
from text_tools import write_sam3

import infer
from fmawsss.files.instances import read_instances, write_instances
from fmawsss.text_prompted.instances import FoundClass, list_instances
from fmawsss.text_prompted.maps import Found

QUICK = ["dataset.train_images=3", "dataset.val_images=1", "logger=none", "report=none"]
WORDS = ["task=text", "evidence=sam3", "memory=none", "loading.workers=0", *QUICK]


def box_mask(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    logits = torch.full((8, 10), -5.0)
    logits[top:bottom, left:right] = 5.0
    return logits


def find(boxes: list[tuple[int, int, int, int]], scores: list[float]) -> Found:
    masks = torch.stack([box_mask(*box) for box in boxes])
    relative = torch.tensor(boxes) / torch.tensor([10, 8, 10, 8])
    return Found(masks, torch.tensor(scores), relative, None)


def test_one_object_stays_of_what_several_phrases_find() -> None:
    first = find([(0, 0, 4, 4), (6, 4, 9, 8)], [0.6, 0.9])
    second = find([(0, 0, 4, 4)], [0.8])
    other = find([(0, 0, 4, 4)], [0.5])
    classes = [FoundClass(2, ["cat", "kitten"], [first, second]), FoundClass(5, ["dog"], [other])]
    made = list_instances(classes, (8, 10), overlap=0.7)
    assert made.values.tolist() == [2, 2, 5]
    assert made.phrases == ["cat", "kitten", "dog"]
    assert made.scores.tolist() == pytest.approx([0.9, 0.8, 0.5])
    torch.testing.assert_close(made.boxes[0], torch.tensor([6.0, 4.0, 9.0, 8.0]))
    expected = [box_mask(6, 4, 9, 8) > 0, *[box_mask(0, 0, 4, 4) > 0] * 2]
    assert all(map(torch.equal, made.masks(), expected))


def test_objects_come_back_from_disk(tmp_path: Path) -> None:
    classes = [
        FoundClass(1, ["a", "b"], [find([(1, 2, 5, 7)], [0.5]), find([(0, 0, 1, 1)], [0.4])])
    ]
    for name, given in (("some", classes), ("none", [])):
        made = list_instances(given, (16, 20), 0.7)
        write_instances(tmp_path / f"{name}.npz", made, "f")
        found = read_instances(tmp_path / f"{name}.npz")
        assert found.phrases == made.phrases
        assert all(map(torch.equal, found.masks(), made.masks()))
        assert torch.equal(found.boxes, made.boxes)


@pytest.mark.parametrize(("name", "change"), [("counts", 1), ("offsets", 1), ("values", None)])
def test_broken_objects_are_refused_by_name(tmp_path: Path, name, change) -> None:
    path = tmp_path / "a.npz"
    classes = [FoundClass(1, ["a"], [find([(1, 2, 5, 7)], [0.5])])]
    write_instances(path, list_instances(classes, (8, 10), 0.7), "f")
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = arrays[name][:0] if change is None else arrays[name] + change
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"a\.npz holds objects whose masks do not fit"):
        read_instances(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("instances")
    write_sam3(folder / "weights" / "sam3")
    with pytest.MonkeyPatch.context() as patch:
        apply(patch, folder, "callbacks=instances", "save_as=[coco_objects,coco]")
    return folder


def apply(monkeypatch, folder: Path, *words: str) -> None:
    places = [f"paths.{kind}={folder}/{kind}" for kind in ("data", "outputs", "weights")]
    run(infer.main, monkeypatch, *WORDS, *words, *places)


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / "outputs/shapes/exports/sam3" / name).read_text())


def test_coco_has_one_entry_per_object(finished) -> None:
    told = read(finished, "coco_objects/objects_rle.json")
    kept = sorted((finished / "outputs/shapes/instances/sam3").glob("*.npz"))
    found = [read_instances(path) for path in kept]
    assert len(told["images"]) == len(kept) == 3
    assert len(told["annotations"]) == sum(len(each.values) for each in found) > 0
    for image, each in zip(told["images"], found, strict=True):
        own = [a for a in told["annotations"] if a["image_id"] == image["id"]]
        assert [a["category_id"] for a in own] == each.values.tolist()
        for annotation, mask in zip(own, each.masks(), strict=True):
            runs = annotation["segmentation"]["counts"]
            values = np.arange(len(runs)) % 2  # by columns, the background first
            columns = np.repeat(values, runs).reshape(mask.shape[::-1]).T
            assert np.array_equal(columns, mask.numpy())
            assert annotation["area"] == int(mask.sum())
            assert 0.3 < annotation["score"] < 1
            assert annotation["phrase"]
    assert len(read(finished, "coco_objects/objects_polygons.json")["annotations"]) > 0


def test_objects_that_are_lost_are_made_again(finished, tmp_path, monkeypatch) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    kept = tmp_path / "copy/outputs/shapes/instances/sam3/train_00001.npz"
    before = kept.read_bytes()
    kept.write_bytes(before[:50])
    apply(monkeypatch, tmp_path / "copy", "callbacks=instances")
    assert all(
        map(
            torch.equal,
            read_instances(kept).masks(),
            read_instances(finished / "outputs/shapes/instances/sam3/train_00001.npz").masks(),
        )
    )


def test_objects_that_are_not_kept_cannot_be_exported(finished, tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"save_as=coco_objects needs.*callbacks=instances"):
        apply(monkeypatch, finished, "save_as=[coco_objects]", f"paths.work={tmp_path}/new")
    assert not (tmp_path / "new/seeds").exists()
