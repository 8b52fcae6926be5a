"""What is left out is told: files, folders, masks, labels; `task=check` shows the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_trees import build_folder_tree, draw_image, write_jpeg, write_mask
from front_door import run
from PIL import Image

import infer
from datamodules.folder import tell

CHECK = ["task=check", "job.workers=0", "dataset=folder", "logger=none"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tell.cache_clear()  # what another test was told
    monkeypatch.chdir(tmp_path)
    return build_folder_tree(tmp_path / "photos")


@pytest.fixture
def check(photos: Path, monkeypatch, capsys):
    """Check the photos, and return what is shown in one line."""

    def check(*words: str) -> str:
        run(infer.main, monkeypatch, *CHECK, "dataset.root=photos", "paths.outputs=out", *words)
        return " ".join(capsys.readouterr().out.split())

    return check


def test_files_of_every_kind_are_images_or_told(photos: Path, check) -> None:
    """F7, F8: linked folders, upper case, other formats; whatever is no image is counted."""
    (photos.parent / "more").mkdir()
    write_jpeg(photos.parent / "more/x.JFIF", draw_image(5, (24, 40)))
    Image.fromarray(draw_image(6, (24, 40))).save(photos / "cat/y.gif")
    (photos / "linked").symlink_to(photos.parent / "more")
    (photos / "cat/around").symlink_to(photos)
    (photos / "cat/raw.HEIC").write_text("x")
    before = check().split("all │")[1].split("│")[0]
    assert int(before) == 5


def test_what_is_no_image_is_counted(photos: Path, check) -> None:
    (photos / "cat/raw.HEIC").write_text("x")
    (photos / "cat/around").symlink_to(photos)
    (photos / ".thumbnails").mkdir()
    shown = check()
    assert "2 files are no images: 1 .heic, 1 .md" in shown
    assert "photos/.thumbnails, photos/cat/around left out" in shown


def test_products_below_the_photos_are_no_images(photos: Path, monkeypatch, capsys) -> None:
    """F4: with every default, in the folder of photos itself."""
    monkeypatch.chdir(photos)
    write_mask(Path("outputs/folder/masks/cat/b.png"), np.zeros((24, 40), np.uint8))
    write_mask(Path("outputs/other/masks/cat/b.png"), np.zeros((24, 40), np.uint8))
    run(infer.main, monkeypatch, *CHECK, "dataset.root=.")
    shown = capsys.readouterr().out
    assert "outputs left out" in shown
    assert int(shown.split("all")[1].split("│")[1]) == 3


def test_masks_without_images_are_told(photos: Path, check) -> None:
    write_mask(Path("masks/cat/b.png"), np.zeros((24, 40), np.uint8))
    Path("masks/cat/b.png").rename("masks/cat/b.PNG")
    write_mask(Path("masks/cat/c.png"), np.zeros((24, 40), np.uint8))
    shown = check("dataset.masks=masks", "dataset.classes=[cat]")
    assert "masks: 1 masks have no image (cat/c)" in shown
    assert "2 images have no mask and no score" in shown
    assert "dataset.masks=DIR names a folder" in shown


def test_labels_match_in_both_normal_forms(photos: Path, check) -> None:
    """A Mac writes the ö of a file in two characters, a spreadsheet in one; classes alike."""
    rows = "cat/a.v2,caf\u00e9\ncat/b,cafe\u0301\ndog/gro\u0308\u00dfe 1,dog\n"
    Path("labels.csv").write_text(f"name,labels\n{rows}", encoding="utf-8")
    shown = check("dataset/labels=file", "dataset.labels.path=labels.csv")
    assert "nothing to repair" in shown
    assert "│ 1 │ café │ 2 │" in shown
    assert "│ 2 │ dog │ 1 │" in shown


def test_suspicious_names_are_remarked(photos: Path, check) -> None:
    """F19: classes that are made up from whatever stands there are shown."""
    rows = 'cat/a.v2,"circle,square"\ncat/b,Cat;cat\ndog/größe 1,2023\n'
    Path("labels.csv").write_text(f"name,labels\n{rows}", encoding="utf-8")
    shown = check("dataset/labels=file", "dataset.labels.path=labels.csv")
    assert "class 'circle,square' looks like several" in shown
    assert "class '2023' is a number" in shown
    assert "classes 'Cat', 'cat' differ by capitals alone" in shown


@pytest.mark.parametrize("labels", ["masks", "xml", "annotations"])
def test_labels_that_know_no_names_ask_for_them(check, labels: str) -> None:
    """F12."""
    with pytest.raises(ValueError, match=r"set dataset.classes=\[cat,dog\]"):
        check(f"dataset/labels={labels}")


def test_a_list_may_mix_relative_and_absolute_paths(photos: Path, check) -> None:
    """F17."""
    Path("list.txt").write_text(f"photos/cat/b.png\n{photos.resolve()}/cat/a.v2.jpg\n")
    files = {path.name for path in (photos / "cat").iterdir()}
    Path("list.txt").write_text("".join(f"photos/cat/{name}\n" for name in files))
    with Path("list.txt").open("a") as file:
        file.writelines(f"{path}\n" for path in (photos / "dog").iterdir())
    assert "nothing to repair" in check("dataset.root=list.txt")
