from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datamodules.shapes as shapes_file
from datamodules.labels import LabelsFromMasks, LabelsFromXml
from datamodules.shapes import ShapesDataModule
from fmawsss.files.png import read_mask
from fmawsss.files.writing import HOST
from fmawsss.tiny.shapes import CLASS_NAMES


def make_shapes(root: Path, **changes: Any) -> ShapesDataModule:
    settings = {
        "draw_seed": 0,
        "labels": LabelsFromXml(difficult=True),
        "train_images": 4,
        "val_images": 3,
        **changes,
    }
    return ShapesDataModule(
        root=root,
        masks="SegmentationClass",
        classes=CLASS_NAMES,
        p_material=0.9,
        labelled=True,
        **settings,
    )


def list_bytes(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_shapes(tmp_path / "shapes").prepare_data()
    return tmp_path / "shapes"


def test_the_tree_is_a_voc_tree(tree: Path) -> None:
    module = make_shapes(tree)
    train, val = module.read_records("train"), module.read_records("val")
    assert (len(train), len(val)) == (4, 3)
    from_masks = make_shapes(tree, labels=LabelsFromMasks(cache=None)).read_records("train,val")
    assert [record.labels for record in train + val] == [record.labels for record in from_masks]
    assert all(record.labels for record in train + val)
    with Image.open(train[0].image) as image, Image.open(train[0].truth) as mask:
        assert (image.format, image.size) == ("JPEG", (112, 112))
        assert (mask.mode, mask.getpalette()[3:6]) == ("P", [128, 0, 0])
    assert read_mask(train[0].truth).max() <= len(CLASS_NAMES)


def test_the_same_seed_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "again").prepare_data()
    make_shapes(tmp_path / "other", draw_seed=1).prepare_data()
    assert list_bytes(tree) == list_bytes(tmp_path / "again")
    name = "SegmentationClass/train_00000.png"
    assert list_bytes(tree)[name] != list_bytes(tmp_path / "other")[name]


def test_the_splits_differ_and_do_not_depend_on_each_other(tree: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "more", train_images=6).prepare_data()
    less, more = list_bytes(tree), list_bytes(tmp_path / "more")
    assert less["JPEGImages/train_00000.jpg"] != less["JPEGImages/val_00000.jpg"]
    assert all(more[name] == content for name, content in less.items() if "_0" in name)


def test_a_complete_tree_is_left_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_file, "draw_scene", None)
    make_shapes(tree).prepare_data()


def test_other_settings_are_refused(tree: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"other settings: val_images 3 \(now 5\), draw_seed 0 \(now 1\); set dataset.root",
    ):
        make_shapes(tree, val_images=5, draw_seed=1).prepare_data()


def test_a_killed_write_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, draw = tmp_path / "shapes", shapes_file.draw_scene
    calls = iter(range(3))

    def draw_and_die(rng: np.random.Generator, p_material: float) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return draw(rng, p_material)

    monkeypatch.setattr(shapes_file, "draw_scene", draw_and_die)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(root).prepare_data()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shapes_file, "draw_scene", draw)
    make_shapes(root).prepare_data()
    assert len(make_shapes(root).read_records("train")) == 4


def test_what_a_killed_run_drew_by_half_goes_although_another_was_first(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes").prepare_data()
    half = tmp_path / f".shapes-{HOST}-{2**22 + 1}-0123abcd.tmp"
    half.mkdir()
    (half / "train_00000.jpg").touch()
    make_shapes(tmp_path / "shapes").prepare_data()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_folder_of_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"holds other files and no shapes\.json"):
        make_shapes(tmp_path).prepare_data()


def test_a_missing_split_is_not_sought_at_another_data_set(tree: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"test\.txt does not exist \(there are train, val\)(?!.*voc)"
    ):
        make_shapes(tree).read_records("test")
