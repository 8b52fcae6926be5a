"""Seeds and masks in the formats of other tools, read back as those would, against the PNGs."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from fake_trees import build_folder_tree, draw_image, draw_mask, write_jpeg, write_mask
from front_door import run
from PIL import Image

import infer
import train
from datamodules.voc import read_split_list
from fmawsss.files.png import read_mask
from fmawsss.tiny.shapes import CLASS_NAMES
from stages.exports.labelstudio import encode_brush
from stages.exports.masks import CvatMasks, MaskSet, require_masks

# pycocotools 2.0.11 decodes through an array interface that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

FEW = ["dataset.train_images=3", "dataset.val_images=1", "data.workers=0", "logger=none"]
ALL = "save_as=[voc,voc_server,coco,yolo,labelstudio,cvat]"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Seeds of three drawn images, made with hand-written prompts and saved in every format."""
    folder = tmp_path_factory.mktemp("exports")
    settings = [
        "task=cls",
        "prompts=handwritten",
        "data.superpixels=null",
        "writers.seeds.kind=cam",
        "scored=cam",
    ]
    with pytest.MonkeyPatch.context() as patch:
        run(
            infer.main,
            patch,
            *settings,
            *FEW,
            ALL,
            f"paths.data={folder}/data",
            f"paths.outputs={folder}",
        )
    return folder / "shapes"


@pytest.fixture(scope="module")
def seeds(work: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_mask(path) for path in sorted((work / "seeds/coarse").glob("*.png"))}


def test_voc_is_a_tree_that_we_read(work: Path, seeds, tmp_path: Path, monkeypatch) -> None:
    root = work / "exports/cls/voc"
    assert {
        path.stem: read_mask(path).tolist() for path in (root / "SegmentationClass").iterdir()
    } == {name: seed.tolist() for name, seed in seeds.items()}
    assert read_split_list(root / "ImageSets/Segmentation/train.txt") == list(seeds)
    there = [
        f"dataset.root={root}",
        "dataset.masks=SegmentationClass",
        "split=train",
        f"paths.outputs={tmp_path}",
    ]
    classes = f"dataset.classes=[{','.join(CLASS_NAMES)}]"
    counts = ["job.expected.train=3", "job.workers=0", "dataset.prompt_names=null"]
    run(infer.main, monkeypatch, "task=check", "dataset=voc", *there, classes, *counts)
    assert (root / "class_names.txt").read_text().split() == ["background", *CLASS_NAMES]


def test_the_server_archive_holds_palette_pngs(work: Path, seeds) -> None:
    with tarfile.open(work / "exports/cls/voc_server.tar.gz") as archive:
        assert archive.getnames() == [
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in seeds
        ]
        for name, seed in seeds.items():
            member = archive.extractfile(f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png")
            with Image.open(io.BytesIO(member.read())) as picture:
                assert picture.mode == "P"
                assert (np.array(picture) == seed).all()


@pytest.mark.parametrize("kind", ["rle", "polygons"])
def test_coco_reads_its_own_format(work: Path, seeds, kind: str) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(
        work / f"exports/cls/coco/instances_{kind}.json"
    )
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for region in coco.loadAnns(coco.getAnnIds(image["id"])):
            pixels = coco.annToMask(region).astype(bool)
            mask[pixels] = region["category_id"]
            rows, columns = np.nonzero(pixels)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (region["bbox"], region["area"]) == (box, pixels.sum())
        assert (mask == seeds[Path(image["file_name"]).stem]).all()


def test_yolo_polygons_paint_the_mask(work: Path, seeds) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    root = work / "exports/cls/yolo"
    data = yaml.safe_load((root / "data.yaml").read_text())
    assert data["names"] == list(CLASS_NAMES)
    for name, seed in seeds.items():
        mask, size = np.zeros_like(seed), np.array(seed.shape[::-1])
        for line in (root / "labels" / f"{name}.txt").read_text().splitlines():
            label, *numbers = line.split()
            corners = (np.array(numbers, float).reshape(-1, 2) * size).round().ravel().tolist()
            mask[rle.decode(rle.merge(rle.frPyObjects([corners], *seed.shape))).astype(bool)] = (
                int(label) + 1
            )
        assert (mask == seed).all()
        with Image.open(root / "images" / f"{name}.jpg") as image:
            assert image.size == seed.shape[::-1]


def decode_brush(data: list[int]) -> np.ndarray:
    """Read Label Studio's code bit by bit, as its web page does."""
    bits, place = "".join(f"{byte:08b}" for byte in data), 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    values, word = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < values:
        repeated, count = read(1), read(lengths[read(2)]) + 1
        out += [read(word)] * count if repeated else [read(word) for _ in range(count)]
    return np.array(out)


def test_label_studio_brushes_decode(work: Path, seeds) -> None:
    tasks = json.loads((work / "exports/cls/labelstudio/tasks.json").read_text())
    interface = ElementTree.parse(work / "exports/cls/labelstudio/labels.xml")
    assert [label.get("value") for label in interface.iter("Label")] == list(CLASS_NAMES)
    (brushes,) = interface.iter("BrushLabels")
    for task, (name, seed) in zip(tasks, seeds.items(), strict=True):
        assert task["data"]["image"] == f"/data/local-files/?d={name}.jpg"
        mask = np.zeros_like(seed)
        for region in task["predictions"][0]["result"]:
            assert (region["from_name"], region["to_name"]) == (
                brushes.get("name"),
                brushes.get("toName"),
            )
            pixels = decode_brush(region["value"]["rle"]).reshape(*seed.shape, 4)
            assert (pixels == pixels[..., :1]).all()
            (label,) = region["value"]["brushlabels"]
            mask[pixels[..., 3] > 0] = CLASS_NAMES.index(label) + 1
        assert (mask == seed).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (150, 700)])
def test_any_brush_decodes(size: tuple[int, int]) -> None:
    for mask in (
        np.random.default_rng(0).random(size) < 0.5,
        np.ones(size, bool),
        np.zeros(size, bool),
    ):
        assert (
            decode_brush(list(encode_brush(mask))).reshape(*size, 4)[..., 0] == 255 * mask
        ).all()


def test_cvat_colours_stand_for_labels(work: Path, seeds) -> None:
    with zipfile.ZipFile(work / "exports/cls/cvat.zip") as archive:
        rows = csv.reader(archive.read("labelmap.txt").decode().splitlines()[1:], delimiter=":")
        colours = {tuple(map(int, colour.split(","))): label for label, colour, *_ in rows}
        assert archive.read("ImageSets/Segmentation/default.txt").decode().split() == list(seeds)
        labels = ("background", *CLASS_NAMES)
        for name, seed in seeds.items():
            with Image.open(archive.open(f"SegmentationClass/{name}.png")) as picture:
                values = [
                    labels.index(colours[tuple(pixel)])
                    for pixel in np.array(picture).reshape(-1, 3).tolist()
                ]
            assert (np.reshape(values, seed.shape) == seed).all()
            with Image.open(archive.open(f"SegmentationObject/{name}.png")) as picture:
                objects = np.unique(np.array(picture).reshape(-1, 3), axis=0)
            assert len(objects) == len({0, *np.unique(seed).tolist()})


def test_network_masks_of_a_folder_are_saved_too(work: Path, tmp_path: Path, monkeypatch) -> None:
    data = work.parent / "data"
    there = [f"paths.data={data}", f"paths.outputs={tmp_path}"]
    once = ["loop.max_steps=1", "data.batch_size=2", f"seeds={data}/shapes-0/SegmentationClass"]
    run(train.main, monkeypatch, "task=network", *once, *FEW, *there)
    tree = build_folder_tree(tmp_path / "photos")
    run(
        infer.main,
        monkeypatch,
        "task=network",
        "dataset=folder",
        f"dataset.root={tree}",
        ALL,
        *there,
        "data.workers=0",
    )
    coco = json.loads((tmp_path / "folder/exports/network/coco/instances_rle.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [
        "cat/a.v2.jpg",
        "cat/b.jpg",
        "dog/größe 1.jpg",
    ]
    assert (tmp_path / "folder/exports/network/yolo/labels/dog/größe 1.txt").is_file()
    voc = [
        "dataset=voc",
        f"dataset.root={tmp_path}/folder/exports/network/voc",
        "dataset.masks=SegmentationClass",
    ]
    classes = [
        f"dataset.classes=[{','.join(CLASS_NAMES)}]",
        "dataset.prompt_names=null",
        "job.workers=0",
        "split=all",
    ]
    run(infer.main, monkeypatch, "task=check", *voc, *classes, *there)
    image = tmp_path / "folder/exports/network/voc/JPEGImages/dog__größe 1.jpg"
    assert image.is_file()
    assert not image.is_symlink()  # it may be packed and moved
    tasks = json.loads((tmp_path / "folder/exports/network/labelstudio/tasks.json").read_text())
    assert tasks[2]["data"]["image"].endswith("dog/gr%C3%B6%C3%9Fe%201.jpg")


def test_ignored_pixels_belong_to_no_label(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", draw_mask([1], (16, 20)))
    masks = MaskSet(tmp_path, {"a": Path("a.jpg")}, ("cat", "dog"), "all")
    CvatMasks(tmp_path / "cvat.zip")(masks)
    with (
        zipfile.ZipFile(tmp_path / "cvat.zip") as archive,
        Image.open(archive.open("SegmentationClass/a.png")) as mask,
    ):
        assert {tuple(colour) for colour in np.array(mask).reshape(-1, 3).tolist()} == {
            (0, 0, 0),
            (0, 128, 0),
        }


def test_what_cannot_be_saved_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png does not exist: use a task that writes masks"):
        require_masks(MaskSet(tmp_path, {"a": Path("a.jpg")}, ("cat",), "all"))


@pytest.mark.parametrize(
    ("format", "image", "label", "said"),
    [
        ("cvat", "a", "a:b", "class 'a:b' cannot stand in CVAT's label map"),
        ("cvat", "a", "#a", "class '#a' cannot stand in CVAT's label map"),
        ("cvat", "#a", "cat", "image '#a' cannot stand in CVAT's list"),
        ("voc", " a", "cat", "image ' a' cannot stand in VOC's list"),
        ("voc", "\ufeffa", "cat", "cannot stand in VOC's list"),
        ("voc", "a\\b", "cat", "write it without control characters, and with /"),
        ("voc", f"{'a' * 150}/{'b' * 150}", "cat", "at most 200 bytes"),
        ("voc", "a__b", "cat", "would have one name in VOC's tree"),
        ("yolo", "images/a", "cat", "rename the folder"),
        ("labelstudio", "a", "$cat", r"Label Studio takes a word after `\$`"),
        ("video", "a", "cat", "needs a video as dataset.root"),
    ],
)
def test_names_that_a_format_cannot_hold_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch, format: str, image: str, label: str, said: str
) -> None:
    for name in (image, "a/b"):
        write_jpeg(tmp_path / f"photos/{name}.jpg", draw_image(0, (24, 40)))
    (tmp_path / "labels.csv").write_text(f'name,labels\n"{image}","{label}"\na/b,dog\n')
    words = [
        "task=cls", "prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam",
        "dataset=folder", f"dataset.root={tmp_path}/photos", "dataset/labels=file", "clip=tiny",
        f"dataset.labels.path={tmp_path}/labels.csv", f"paths.work={tmp_path}/work", "report=none",
        f"save_as=[coco,voc_server,{format}]", "logger=none", "scored=cam", "data.workers=0",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=said):
        run(infer.main, monkeypatch, *words)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["runs"]


def test_a_stage_without_masks_saves_none(tmp_path: Path, monkeypatch) -> None:
    words = [f"paths.data={tmp_path}/data", f"paths.work={tmp_path}/work", *FEW, "save_as=[coco]"]
    with pytest.raises(ValueError, match="stage superpixels writes none to"):
        run(infer.main, monkeypatch, "task=superpixels", *words)
    assert not (tmp_path / "work/superpixels").exists()
