"""Photos of every kind, size and name go through the front door, or are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_trees import draw_image
from front_door import run
from PIL import Image

import infer
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch

TURNED = Image.Exif()
TURNED[0x0112] = 6  # shown turned by a quarter
GREY_16 = Image.fromarray((np.arange(40 * 60, dtype=np.uint16) * 27).reshape(40, 60))
COLOUR = Image.fromarray(draw_image(0, (40, 60)))

# file, picture, settings, height and width as shown
ODD: dict[str, tuple[Image.Image, dict, tuple[int, int]]] = {
    "sub/turned.jpg": (COLOUR, {"exif": TURNED}, (60, 40)),
    "turned 2.tif": (COLOUR, {"exif": TURNED}, (60, 40)),
    "turned 3.webp": (COLOUR, {"exif": TURNED}, (60, 40)),
    "grey.jpg": (COLOUR.convert("L"), {}, (40, 60)),
    "grey 16.png": (GREY_16, {}, (40, 60)),
    "grey 16.v2.tiff": (GREY_16, {}, (40, 60)),
    "cmyk.jpg": (COLOUR.convert("CMYK"), {}, (40, 60)),
    "alpha.png": (COLOUR.convert("RGBA"), {}, (40, 60)),
    "grey alpha.png": (COLOUR.convert("LA"), {}, (40, 60)),
    "palette.png": (COLOUR.quantize(16), {}, (40, 60)),
    "palette.bmp.png": (COLOUR.quantize(16), {"transparency": 3}, (40, 60)),
    "one bit.png": (COLOUR.convert("1"), {}, (40, 60)),
    "plain.bmp": (COLOUR, {}, (40, 60)),
    "größe 写真.JPG": (COLOUR, {}, (40, 60)),
    "dot.png": (COLOUR.resize((1, 1)), {}, (1, 1)),
    "thin.png": (COLOUR.resize((301, 3)), {}, (3, 301)),
    "odd.JPEG": (COLOUR.resize((37, 53)), {}, (53, 37)),
}


def apply(monkeypatch, root: Path, work: Path) -> None:
    """Seed a folder with hand-written prompts: no training, but everything else."""
    (work / "labels.txt").write_text("".join(f"{name}\tcircle\n" for name in ODD), encoding="utf-8")
    settings = [
        "task=cls",
        "prompts=handwritten",
        "data.superpixels=null",
        "writers.seeds.kind=cam",
        "scored=null",
    ]
    folder = [
        "dataset=folder",
        f"dataset.root={root}",
        "dataset/labels=list",
        f"dataset.labels.path={work}/labels.txt",
    ]
    tiny = ["clip=tiny", "sam=tiny", "logger=none", "data.workers=0", f"paths.outputs={work}"]
    run(infer.main, monkeypatch, *settings, *folder, *tiny)


def test_every_kind_is_read_at_the_size_it_is_shown(tmp_path: Path, monkeypatch) -> None:
    for name, (picture, settings, _) in ODD.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "photos" / name, **settings)
    apply(monkeypatch, tmp_path / "photos", tmp_path)
    for name, (*_, size) in ODD.items():
        assert (
            read_mask(tmp_path / "folder/seeds/coarse" / f"{name.rpartition('.')[0]}.png").shape
            == size
        ), name


@pytest.mark.parametrize(("task", "said"), [("cls", "they changed since"), ("superpixels", "odd")])
def test_only_products_of_turned_tiffs_go_by_how_they_are_read(
    tmp_path: Path, monkeypatch, task: str, said: str
) -> None:
    (tmp_path / "photos").mkdir()
    COLOUR.save(tmp_path / "photos/plain.jpg")
    (tmp_path / "labels.txt").write_text("plain circle\nodd circle\n")
    words = [
        f"task={task}", "dataset=folder", f"dataset.root={tmp_path}/photos", "logger=none",
        "dataset/labels=list", f"dataset.labels.path={tmp_path}/labels.txt", "clip=tiny",
        "sam=superpixels_classic", f"paths.outputs={tmp_path}/out", "data.workers=0",
    ]  # fmt: skip
    if task == "cls":
        words += ["prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam"]
        words += ["scored=null"]

    def make(version: int) -> None:
        for place in ("stages.stage", "fmawsss.files.journals"):
            monkeypatch.setattr(f"{place}.TURNED_TIFFS", version)
        run(infer.main, monkeypatch, *words)

    # no file of the kind, then one
    for version in (1, 2):
        make(version)
    COLOUR.convert("L").save(tmp_path / "photos/odd.tif", exif=TURNED)
    words.append("paths.work=" + str(tmp_path / "work"))
    make(1)
    with pytest.raises(ProductMismatch, match=said):
        make(2)


@pytest.mark.parametrize("picture", [Image.fromarray(np.zeros((9, 9), np.float32)), None])
def test_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch, picture: Image.Image | None
) -> None:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "turned 2.tif"
    if picture is None:
        path.write_bytes(b"no image")
    else:
        picture.save(path)
    with pytest.raises(ValueError, match=r"turned 2\.tif"):
        apply(monkeypatch, tmp_path / "photos", tmp_path)
