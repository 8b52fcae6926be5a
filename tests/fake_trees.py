"""Small data sets on disk in the layout of the real ones: VOC, COCO and a plain folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from datamodules.labels import LabelsFromMasks, keep_image_labels
from datamodules.transforms import NoAugment
from datamodules.views import TrainingView, WholeView
from datamodules.voc import VocDataModule
from fmawsss.resizing import AlignToPatch, Normaliser

VOC_CLASSES = ("aeroplane", "bird", "person")
VOC_PROMPTS = ("aeroplane", "bird avian", "person with clothes,people,human")
# name -> class indices shown; the last image shows none of the classes
VOC_IMAGES: dict[str, tuple[int, ...]] = {
    "2007_000032": (0, 2),
    "2007_000039": (1,),
    "2007_000063": (2,),
    "2008_000008": (0, 1),
    "2008_000015": (),
}


NORMALISE = Normaliser((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def make_training(split: str = "trainaug", **changes: Any) -> TrainingView:
    """A training view that leaves images as they are."""
    settings: dict[str, Any] = {
        "batch_size": 2,
        "micro_batches": 1,
        "seed": 0,
        "normalise": NORMALISE,
        "augment": NoAugment(1),
        "crop_labels": keep_image_labels,
    }
    return TrainingView(split=split, **{**settings, **changes})


def make_whole(split: str = "trainaug", **changes: Any) -> WholeView:
    """Whole images in patches of 16 pixels, one by one."""
    settings = {"resize": AlignToPatch(16), "normalise": NORMALISE, "batch_size": 1}
    return WholeView(split=split, **{**settings, **changes})


def draw_image(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth random colours, so that JPEG keeps them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def draw_mask(labels: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """One block per label side by side, with an ignored edge below."""
    mask = np.zeros(size, np.uint8)
    for place, label in enumerate(labels):
        mask[4:12, 4 + 10 * place : 12 + 10 * place] = label + 1
    mask[-1] = 255
    return mask


def write_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """An indexed PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)


def write_voc_xml(path: Path, objects: Iterable[tuple[str, int]]) -> None:
    """VOC's annotation of one image; each object is a name and whether it is difficult."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "<part><name>head</name></part></object>"
        for name, difficult in objects
    )
    path.write_text(
        f"<annotation><folder>VOC2012</folder><filename>{path.stem}.jpg</filename>{entries}</annotation>"
    )


def build_voc_tree(root: Path, size: tuple[int, int] = (36, 50)) -> Path:
    """VOCdevkit/VOC2012: five images of trainaug, two of val, one without mask of test."""
    for index, (name, labels) in enumerate(VOC_IMAGES.items()):
        write_jpeg(root / "JPEGImages" / f"{name}.jpg", draw_image(index, size))
        write_mask(root / "SegmentationClassAug" / f"{name}.png", draw_mask(labels, size))
        write_voc_xml(
            root / "Annotations" / f"{name}.xml", [(VOC_CLASSES[label], 0) for label in labels]
        )
    write_jpeg(root / "JPEGImages" / "2008_000006.jpg", draw_image(9, size))
    names = list(VOC_IMAGES)
    write_lists(
        root / "ImageSets" / "Segmentation",
        {"trainaug": names, "val": names[:2], "test": ["2008_000006"]},
    )
    return root


# name -> values of VOC's 20 classes (1 aeroplane, 3 bird, 15 person), and the lists that name it
OFFICIAL_IMAGES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "2007_000032": ((1, 15), ("voc train", "sbd train")),
    "2007_000033": ((3,), ("voc val", "sbd val")),
    "2008_000007": ((15,), ("sbd train",)),
    "2008_000009": ((1,), ("sbd val",)),
}


def list_official(which: str) -> list[str]:
    return [name for name, (_, lists) in OFFICIAL_IMAGES.items() if which in lists]


def build_official_voc(folder: Path, size: tuple[int, int] = (36, 50)) -> tuple[Path, Path]:
    """The trees of VOCtrainval_11-May-2012.tar, with masks of train and val, and benchmark.tgz."""
    voc, sbd = folder / "VOCdevkit" / "VOC2012", folder / "benchmark_RELEASE" / "dataset"
    short = {1: "aeroplane", 3: "bird", 15: "person"}
    for index, (name, (values, lists)) in enumerate(OFFICIAL_IMAGES.items()):
        write_jpeg(voc / "JPEGImages" / f"{name}.jpg", draw_image(index, size))
        write_voc_xml(voc / "Annotations" / f"{name}.xml", [(short[value], 0) for value in values])
        mask = draw_mask([value - 1 for value in values], size)
        if any("voc" in where for where in lists):
            write_mask(voc / "SegmentationClass" / f"{name}.png", mask)
        write_sbd_mask(sbd / "cls" / f"{name}.mat", np.where(mask == 255, 0, mask))
    write_lists(
        voc / "ImageSets" / "Segmentation", {s: list_official(f"voc {s}") for s in ("train", "val")}
    )
    write_lists(sbd, {s: list_official(f"sbd {s}") for s in ("train", "val")})
    return voc, sbd


def write_sbd_mask(path: Path, mask: np.ndarray) -> None:
    """A file of SBD's `cls` folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.unique(mask[mask > 0])[:, None]
    savemat(
        path,
        {
            "GTcls": {
                "Boundaries": np.zeros((20, 1)),
                "Segmentation": mask,
                "CategoriesPresent": present,
            }
        },
    )


def write_lists(folder: Path, splits: Mapping[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def build_coco_tree(root: Path) -> Path:
    """COCO 2014, ids with gaps: polygons, both kinds of RLE, a crowd, and a bare image."""
    size = {"height": 20, "width": 30}
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", **size} for i in (9, 25, 30)]
    crowd = np.zeros((20, 30), int)
    crowd[:, :20] = 1
    annotations = [
        _region(1, 9, 1, [[2, 2, 18, 2, 18, 16, 2, 16]], 224),
        _region(2, 9, 90, [[4, 4, 8, 4, 8, 8, 4, 8], [10, 4, 12, 4, 12, 6, 10, 6]], 20),
        _region(3, 9, 18, {"counts": count_runs(crowd), "size": [20, 30]}, 400, iscrowd=1),
        _region(4, 25, 18, [[0, 0, 30, 0, 30, 10, 0, 10], [5, 5]], 300),
    ]
    categories = [
        {"id": i, "name": n, "supercategory": "x"}
        for i, n in ((90, "toothbrush"), (1, "person"), (18, "dog"))
    ]
    (root / "annotations").mkdir(parents=True)
    for split in ("train2014", "val2014"):
        named = [
            {**image, "file_name": image["file_name"].replace("train2014", split)}
            for image in images
        ]
        content = {"images": named, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for image in named:
            write_jpeg(root / split / image["file_name"], draw_image(image["id"], (20, 30)))
    return root


def _region(
    number: int, image: int, category: int, segmentation: Any, area: float, iscrowd: int = 0
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "area": area,
        "bbox": [0, 0, 1, 1],
        "iscrowd": iscrowd,
    }


def count_runs(mask: np.ndarray) -> list[int]:
    """Uncompressed RLE, column by column, starting with a run outside the mask."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return np.diff([0, *changes, flat.size]).tolist()


def build_folder_tree(root: Path) -> Path:
    """Photos in class folders, another kind of file, a hidden folder, a name beyond ASCII."""
    for index, name in enumerate(("cat/a.v2", "cat/b", "dog/größe 1")):
        write_jpeg(root / f"{name}.jpg", draw_image(index, (24, 40)))
    write_jpeg(root / ".hidden" / "x.jpg", draw_image(7, (24, 40)))
    (root / "notes.md").write_text("no image")
    return root


def make_voc(root: Path, **changes: Any) -> VocDataModule:
    """The data module of a VOC tree; labels come from its masks unless another reader is named."""
    settings = {
        "classes": VOC_CLASSES,
        "prompt_names": VOC_PROMPTS,
        "labels": LabelsFromMasks(cache=None),
        "labelled": True,
        "masks": "SegmentationClassAug",
    }
    return VocDataModule(root=root, **{**settings, **changes})


def stand_in_for_trainer(rank: int, world_size: int, step: int) -> SimpleNamespace:
    """What a data module asks of a trainer: a process among several, at a step."""
    return SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        global_step=step,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=False),
    )
