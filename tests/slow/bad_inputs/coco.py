"""Bad inputs: COCO's json files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from .judge import BadInput
from .project import FOLDER, train

Content = dict[str, Any]
FILE = "coco/annotations/instances_train2014.json"
LABELS = (*FOLDER, "dataset/labels=coco_json", "dataset.labels.path=labels.json")
TREE = (
    "dataset=coco",
    "dataset.root=coco",
    "dataset.classes=[circle,square]",
    "dataset.prompt_names=null",
    "clip=tiny",
    "sam=tiny",
)
BELOW = "expected a path below the folder of images"
NUMBER = "expected a whole number or a text"


def describe(folder: Path) -> Content:
    """Describe the photos: a circle on each, and a square on the first."""
    images = []
    for number, photo in enumerate(sorted((folder / "photos").glob("*.jpg")), 1):
        with Image.open(photo) as picture:
            width, height = picture.size
        images.append({"id": number, "file_name": photo.name, "height": height, "width": width})
    square = [[4, 4, 40, 4, 40, 40, 4, 40]]
    annotations = [
        {"id": image["id"], "image_id": image["id"], "category_id": 1, "segmentation": square}
        for image in images
    ]
    annotations.append({"id": 9, "image_id": 1, "category_id": 7, "segmentation": square})
    categories = [{"id": 1, "name": "circle"}, {"id": 7, "name": "square"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def change(key: str, number: int, **entries: Any) -> Callable[[Content], Content]:
    """Change an entry of a list; `...` takes a key away."""

    def spoil(content: Content) -> Content:
        entry = {**content[key][number], **entries}
        content[key][number] = {name: value for name, value in entry.items() if value is not ...}
        return content

    return spoil


def replace(**entries: Any) -> Callable[[Content], Content]:
    """Replace whole lists; `...` takes one away."""

    def spoil(content: Content) -> Content:
        entries_ = {**content, **entries}
        return {name: value for name, value in entries_.items() if value is not ...}

    return spoil


def repeat(key: str, number: int, **entries: Any) -> Callable[[Content], Content]:
    """Repeat an entry of a list with changes."""

    def spoil(content: Content) -> Content:
        content[key].append({**content[key][number], **entries})
        return content

    return spoil


def labels(name: str, spoil: Callable[[Content], Any], names: str, tells: str) -> BadInput:
    """A file that labels of a folder are read from."""

    def prepare(folder: Path) -> None:
        content = spoil(describe(folder))
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "labels.json").write_bytes(data)

    command = train("cls", *LABELS)
    return BadInput(f"labels_{name}", "coco", command, prepare, rf"labels\.json.*{names}", tells)


def masks(name: str, spoil: Callable[[Content], Content], names: str, tells: str) -> BadInput:
    """A file of a tree of COCO's, which masks are painted of."""

    def prepare(folder: Path) -> None:
        (folder / "coco/annotations").mkdir(parents=True)
        shutil.copytree(folder / "photos", folder / "coco/train2014")
        (folder / FILE).write_text(json.dumps(spoil(describe(folder))))

    command = train("cls", *TREE)
    names = rf"instances_train2014\.json.*{names}"
    return BadInput(f"masks_{name}", "coco", command, prepare, names, tells)


def regions(name: str, segmentation: Any, tells: str) -> BadInput:
    """A region that cannot be painted."""
    spoil = change("annotations", 1, segmentation=segmentation)
    return masks(f"region_{name}", spoil, r"photo_1\.jpg.*annotation 2", tells)


def write_first(folder: Path) -> None:
    """Write a file that knows one of the images."""
    content = describe(folder)
    (folder / "labels.json").write_text(json.dumps({**content, "images": content["images"][:1]}))


WHOLE = "no whole COCO annotation file"
SIZE = "expected whole numbers of at most"
REPAIR = "repair the annotation"

CASES: list[BadInput] = [
    # files of another kind
    labels("empty", lambda content: "", WHOLE, "unpack or write it again"),
    labels("cut", lambda content: json.dumps(content)[:300], WHOLE, "unpack or write it again"),
    labels("utf_16", lambda c: json.dumps(c).encode("utf-16")[2:99], WHOLE, "write it again"),
    labels("picture", lambda content: b"\xff\xd8\xff\xe0" * 9, WHOLE, "write it again"),
    labels("deep", lambda content: "[" * 1_000_000, WHOLE, "unpack or write it again"),
    labels("a_list", lambda content: [content], WHOLE, "no list `images`"),
    labels("no_images", replace(images=...), WHOLE, "no list `images`"),
    labels("no_categories", replace(categories=...), WHOLE, "no list `categories`"),
    labels("annotations_null", replace(annotations=None), WHOLE, "no list `annotations`"),
    labels("images_by_name", replace(images={"a.jpg": {}}), WHOLE, "no list `images`"),
    labels("image_is_text", replace(images=["photo_0.jpg"]), WHOLE, "no list `images`"),
    # images
    labels("image_without_id", change("images", 0, id=...), "image .*photo_0", NUMBER),
    labels("image_id_is_half", change("images", 0, id=1.5), r"id 1\.5", NUMBER),
    labels("image_id_is_true", change("images", 0, id=True), "id True", NUMBER),
    labels("image_id_twice", change("images", 1, id=1), "two images have the id '1'", "repair"),
    labels("no_file_name", change("images", 1, file_name=...), "image 2", "expected a text"),
    labels("file_name_is_list", change("images", 1, file_name=["a"]), "image 2", "expected a text"),
    labels("absolute", change("images", 1, file_name="/tmp/photo_1.jpg"), "image 2", BELOW),
    labels("climbs_out", change("images", 1, file_name="../../photo_1.jpg"), "image 2", BELOW),
    labels("drive", change("images", 1, file_name="C:\\photo_1.jpg"), "image 2", BELOW),
    labels("backslash", change("images", 1, file_name="a\\b.jpg"), "image 2", "with / between"),
    labels("zero_byte", change("images", 1, file_name="a\0.jpg"), "image 2", "without control"),
    labels("long_name", change("images", 1, file_name="a" * 999), "image 2", "shorten it"),
    labels("empty_name", change("images", 1, file_name=""), "image 2", BELOW),
    labels(
        "one_stem_twice",
        change("images", 1, file_name="photo_0.png"),
        r"photo_0\.jpg and photo_0\.png share a name",
        "rename one of them",
    ),
    BadInput(
        "labels_of_one_image_only",
        "coco",
        train("cls", *LABELS),
        write_first,
        "photo_1",
        "no known labels",
    ),
    # categories
    labels("category_without_name", change("categories", 1, name=...), "category 7", "a text"),
    labels("category_name_empty", change("categories", 1, name=" "), "category 7", "a text"),
    labels("category_without_id", change("categories", 1, id=...), "category .*square", NUMBER),
    labels("category_id_twice", change("categories", 1, id=1), "two categories", "repair"),
    labels("category_background", change("categories", 1, name="background"), "", "take it out"),
    labels("category_escapes", change("categories", 1, name="\x1b[2J"), "", "control characters"),
    labels("category_ignored", change("categories", 1, name=255), "", "255 marks ignored pixels"),
    # annotations
    labels("annotation_of_none", change("annotations", 0, image_id=...), "annotation 1 ", NUMBER),
    labels(
        "annotation_without_category",
        change("annotations", 4, category_id=...),
        "annotation 9 of image 1",
        "expected one of the file's categories",
    ),
    labels(
        "annotation_of_true",
        change("annotations", 4, category_id=True),
        "annotation 9 of image 1",
        "expected one of the file's categories",
    ),
    labels("area_is_nan", change("annotations", 0, area=float("nan")), "annotation 1 ", "a number"),
    labels("crowd_of_three", change("annotations", 0, iscrowd=3), "annotation 1 ", "0 or 1"),
    # sizes and regions, which masks are painted of
    masks("no_height", change("images", 1, height=...), r"photo_1\.jpg", SIZE),
    masks("height_zero", change("images", 1, height=0), r"photo_1\.jpg", SIZE),
    masks("width_is_text", change("images", 1, width="112"), r"photo_1\.jpg", SIZE),
    masks("huge", change("images", 1, height=10**6, width=10**6), r"photo_1\.jpg", SIZE),
    masks(
        "another_size_of_a_file",
        repeat("images", 0, id=77, height=5),
        r"two images are called photo_0\.jpg",
        "repair the file",
    ),
    masks("three_categories", repeat("categories", 0, id=8), "3 categories", "dataset.classes"),
    regions("far_away", [[1e12, 4, 40, 4, 40, 40]], "is no place in an image"),
    regions("nan", [[float("nan"), 4, 40, 4, 40, 40]], "nan is no place in an image"),
    regions("odd", [[4, 4, 40, 4, 40, 40, 7]], "a polygon is a list of x, y"),
    regions("text", [["a", "b"] * 4], "is no place in an image"),
    regions("missing", None, REPAIR),
    regions("numbers_only", [4, 4, 40, 4, 40, 40], "a polygon is a list of x, y"),
    regions("negative_run", {"size": [112, 112], "counts": [-5, 12549]}, "none below 0"),
    regions("of_another_size", {"size": [3, 3], "counts": [9]}, "an RLE of the size"),
    regions("no_counts", {"size": [112, 112]}, "it has no 'counts'"),
    regions("strange_letters", {"size": [112, 112], "counts": "~~"}, "no compressed run lengths"),
    regions("cut_letters", {"size": [112, 112], "counts": "PPP"}, "cut off"),
]
