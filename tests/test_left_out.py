"""What is left out is told: files, folders, masks, labels; `task=check` shows the classes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fake_trees import build_coco_tree, build_folder_tree, draw_image, write_jpeg, write_mask
from front_door import run
from PIL import Image

import infer
import train
from datamodules.images import tell

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


@pytest.mark.parametrize("target", ["gone.jpg", "z.jpg"])
def test_links_to_nowhere_and_in_a_circle_are_named(photos: Path, monkeypatch, target: str) -> None:
    (photos / "notes.txt").symlink_to("notes.txt")  # no image: left out
    (photos / "z.jpg").symlink_to(target)
    words = ["task=superpixels", "dataset=folder", "dataset.root=photos", "sam=tiny", "logger=none"]
    said = rf"first photos/z\.jpg; .*it is a link to {target}, where no file is: remove it"
    with pytest.raises(FileNotFoundError, match=said):
        run(infer.main, monkeypatch, *words)


def test_hidden_images_are_told_as_such(photos: Path, check, monkeypatch) -> None:
    """A Mac leaves a file ._a.jpg beside each a.jpg."""
    write_jpeg(photos / "cat/._a.jpg", draw_image(5, (24, 40)))
    assert "1 .md, 1 hidden (the name begins with a dot)" in " ".join(check().split())
    Path("list.txt").write_text("photos/cat/b.jpg\nphotos/cat/._a.jpg\n")
    with pytest.raises(ValueError, match=r"lists 1 hidden images.*first .*\._a\.jpg: rename"):
        run(infer.main, monkeypatch, "task=superpixels", "dataset=folder", "dataset.root=list.txt")


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


def test_names_that_nearly_match_are_told(photos: Path, check, capsys) -> None:
    """The image that is meant is named, and an empty file is called so."""
    Path("labels.csv").write_text(
        "name;labels;place\r\nCAT/B.jpg;cat;x\r\ncat/a.v2;cat;\r\nz;cat;\r\n", "utf-8-sig"
    )
    (photos / "empty.jpg").write_bytes(b"")
    with pytest.raises(SystemExit):
        check("dataset/labels=file", "dataset.labels.path=labels.csv")
    shown = " ".join(capsys.readouterr().out.split())
    assert "labels of 2 images that are not there (CAT/B (is it cat/b?), z)" in shown
    assert "empty.jpg cannot be read (it is no picture, or an empty file)" in shown


def test_suspicious_names_are_remarked(photos: Path, check) -> None:
    """F19: classes that are made up from whatever stands there are shown."""
    rows = 'cat/a.v2,"circle,square"\ncat/b,Cat;cat\ndog/größe 1,2023;dog;dog\u200b\n'
    Path("labels.csv").write_text(f"sep=,\nname,labels\n{rows}", encoding="utf-8")
    shown = check("dataset/labels=file", "dataset.labels.path=labels.csv")
    assert "class 'circle,square' looks like several" in shown
    assert "class '2023' has no letter" in shown
    assert r"classes 'Cat', 'cat', 'dog', 'dog\u200b' differ by capitals alone, or by" in shown


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


def test_masks_of_other_endings_are_told(photos: Path, check, capsys) -> None:
    write_mask(Path("masks/cat/b.png"), np.zeros((24, 40), np.uint8))
    Image.new("L", (40, 24)).save("masks/cat/a.v2.bmp")
    shown = check("dataset.masks=masks", "dataset.classes=[cat]")
    assert "masks: 1 files are no masks (.png): 1 .bmp" in shown
    Path("masks/cat/b.PNG").write_bytes(Path("masks/cat/b.png").read_bytes())
    with pytest.raises(SystemExit):
        check("dataset.masks=masks", "dataset.classes=[cat]")
    assert "cat/b.PNG and masks/cat/b.png share the name" in capsys.readouterr().out


@pytest.fixture
def voc(tmp_path: Path, monkeypatch, capsys):
    """Check a tree of VOC with one image, whose list and files are in some form of Unicode."""

    def check(listed: str, image: str, mask: str) -> str:
        root = tmp_path / "voc"
        write_jpeg(root / f"JPEGImages/{image}.jpg", draw_image(0, (24, 40)))
        write_mask(root / "SegmentationClass/x.png", np.ones((24, 40), np.uint8))
        (root / "SegmentationClass/x.png").rename(root / f"SegmentationClass/{mask}")
        (root / "ImageSets/Segmentation").mkdir(parents=True)
        (root / "ImageSets/Segmentation/train.txt").write_text(listed, encoding="utf-8")
        run(
            infer.main, monkeypatch, "task=check", "dataset=voc", f"dataset.root={root}",
            "job.workers=0", "logger=none", f"paths.outputs={tmp_path}/out", "split=train",
            "dataset.masks=SegmentationClass", "job.expected.train=1",
        )  # fmt: skip
        return " ".join(capsys.readouterr().out.split())

    return check


@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_lists_of_voc_match_in_both_normal_forms(voc, listed: str, there: str) -> None:
    names = [unicodedata.normalize(form, "gr\u00f6\u00dfe 1") for form in (listed, there)]
    shown = voc(f"{names[0]}\n", names[1], f"{names[0]}.PNG")
    assert "nothing to repair" in shown
    assert "no mask" not in shown
    assert "│ 1 │ aeroplane │ 1 │" in shown


@pytest.mark.parametrize(("wanted", "there"), [(".png", ".PNG"), ("\u00f6", "o\u0308")])
def test_seeds_of_other_capitals_or_forms_are_told(
    photos: Path, monkeypatch, wanted: str, there: str
) -> None:
    for path in photos.rglob("*.jpg"):
        name = f"{path.relative_to(photos).as_posix()[:-4]}.png"
        write_mask(Path("seeds") / name, np.ones((24, 40), np.uint8))
    for path in [path for path in Path("seeds").rglob("*.png") if wanted in path.name]:
        path.rename(path.with_name(path.name.replace(wanted, there)))
    with pytest.raises(FileNotFoundError, match="is there, which differs by capitals, or by"):
        run(
            train.main, monkeypatch, "task=network", "dataset=folder", "dataset.root=photos",
            "seeds=seeds", "dataset/labels=folders", "logger=none", "data.workers=0",
            "paths.outputs=out", "clip=tiny", "network=tiny", "report=none",
        )  # fmt: skip


def test_a_list_of_coco_in_another_form_is_told(tmp_path: Path, monkeypatch, capsys) -> None:
    root = build_coco_tree(tmp_path / "coco")
    source = root / "annotations/instances_train2014.json"
    source.write_text(source.read_text().replace("000000000009.jpg", "\u00f6.jpg"))
    (root / "train2014/COCO_train2014_000000000009.jpg").rename(
        root / "train2014/COCO_train2014_o\u0308.jpg"
    )
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images .* is there, which"):
        run(
            infer.main, monkeypatch, "task=superpixels", "dataset=coco", f"dataset.root={root}",
            "split=train", "logger=none", f"paths.outputs={tmp_path}/out", "sam=tiny",
            "dataset.classes=[person,dog,toothbrush]", "dataset.prompt_names=null", "report=none",
        )  # fmt: skip
