from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_trees import (
    build_folder_tree,
    draw_image,
    make_training,
    make_whole,
    write_jpeg,
    write_mask,
)

from datamodules.folder import FolderDataModule
from datamodules.label_files import LabelsFromFile
from datamodules.labels import LabelsFromFolders

NAMES = ["cat/a.v2", "cat/b", "dog/größe 1"]


def make_folder(root: Path, **changes: Any) -> FolderDataModule:
    settings = {"classes": None, "labels": LabelsFromFolders(), "labelled": True, "masks": None}
    return FolderDataModule(root=root, frames=root, frame_step=1, **{**settings, **changes})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return build_folder_tree(tmp_path / "photos")


def test_every_image_of_the_tree_is_read(tree: Path) -> None:
    module = make_folder(tree)
    assert module.classes == ("cat", "dog")
    assert [(r.name, r.labels, r.truth) for r in module.read_records("all")] == [
        (NAMES[0], (0,), None),
        (NAMES[1], (0,), None),
        (NAMES[2], (1,), None),
    ]


def test_without_labels_images_can_still_be_predicted(tree: Path) -> None:
    whole = make_whole("all", originals=True, truths=True)
    module = make_folder(tree, labels=None, labelled=False, whole=whole)
    module.setup("predict")
    assert [batch.names[0] for batch in module.predict_dataloader()] == NAMES
    with pytest.raises(ValueError, match="has no classes"):
        make_folder(tree, labels=None)


def test_labels_from_a_file(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "name,labels\ncat/a.v2.jpg,tom;tree\ncat/b,tom\ndog/größe 1,\n", encoding="utf-8"
    )
    module = make_folder(tree, labels=LabelsFromFile(file))
    assert module.classes == ("tom", "tree")
    assert [record.labels for record in module.read_records("all")] == [(0, 1), (0,), ()]
    with pytest.raises(ValueError, match=r"line 2: label 'tom': no class"):
        make_folder(tree, labels=LabelsFromFile(file), classes=["dog"]).read_records("all")


def test_labels_without_an_image_are_counted(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tree / "few.txt").write_text("cat/b\n")
    file = tmp_path / "labels.csv"
    file.write_text("name,labels\ncat/b,cat\ncat/a.v2,cat\nlost/image.png,dog\n")
    module = make_folder(tree, labels=LabelsFromFile(file), training=make_training("few"))
    module.setup("fit")
    assert caplog.messages == ["labels of 1 images that are not there: lost/image"]


def test_labels_cannot_be_a_name(tree: Path) -> None:
    for classes in (None, ["cat"]):
        with pytest.raises(ValueError, match=r"dataset/labels=zeroshot"):
            make_folder(tree, labels="zeroshot", classes=classes)


def test_splits_are_lists_or_folders(tree: Path) -> None:
    (tree / "few.txt").write_text("cat/b.jpg\ndog/größe 1\n", encoding="utf-8")
    module = make_folder(tree)
    assert [record.name for record in module.read_records("few")] == NAMES[1:]
    assert [record.name for record in module.read_records("cat")] == NAMES[:2]
    with pytest.raises(
        FileNotFoundError, match=r"neither a list .*birds\.txt nor a folder .*split=all"
    ):
        module.read_records("birds")
    (tree / "few.txt").write_bytes("dog/größe 1\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"few\.txt is no text in UTF-8"):
        make_folder(tree).read_records("few")
    (tree / "few.txt").write_text("cat/c.jpg\n")
    with pytest.raises(
        ValueError,
        match=r"few\.txt names 1 images that are not below .*first 'cat/c.jpg'|first 'cat/c'",
    ):
        make_folder(tree).read_records("few")


def test_masks_below_the_root_are_no_images(tree: Path) -> None:
    write_mask(tree / "masks" / "cat" / "b.png", np.zeros((24, 40), np.uint8))
    module = make_folder(tree, masks=tree / "masks")
    records = module.read_records("all")
    assert [record.name for record in records] == NAMES
    assert [record.truth for record in records] == [None, tree / "masks" / "cat" / "b.png", None]
    with pytest.raises(FileNotFoundError, match=r"mask folder .*none does not exist"):
        make_folder(tree, masks=tree / "none").read_records("all")


def test_bad_trees_are_explained(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; set dataset\.root"):
        make_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image of kind"):
        make_folder(tmp_path / "empty")
    write_jpeg(tree / "cat" / "b.jpeg", draw_image(0, (8, 8)))
    with pytest.raises(ValueError, match="share the name 'cat/b'"):
        make_folder(tree)
