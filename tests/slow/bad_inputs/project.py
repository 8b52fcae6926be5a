"""A small finished project, copied for every case, and the commands that it was made with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[[Path, Sequence[str]], None]

SHAPES = ("dataset.train_images=6", "dataset.val_images=3")
FOLDER = ("dataset=folder", "dataset.root=photos", "clip=tiny", "sam=tiny")
LABELLED = (*FOLDER, "dataset/labels=file", "dataset.labels.path=labels.csv", "learn=all")
LEARNING = ("cls", "seg", "network")
SHORT = ("loop.max_steps=3", "save_every=1")
FEW = "masks.points_per_side=4"


def train(task: str, *words: str) -> list[str]:
    """Learn a stage of the project: what it made before fits."""
    return ["train.py", f"task={task}", *settle(task, words), *words]


def infer(task: str, *words: str) -> list[str]:
    """Apply a stage of the project, or do a job."""
    return ["infer.py", f"task={task}", *settle(task, words), *words]


def pipeline(*words: str) -> list[str]:
    """Run the whole pipeline of the project."""
    steps = [f"stages.{task}.{word}" for task in LEARNING for word in SHORT]
    return ["train.py", *SHAPES, FEW, *steps, *settle("", words), *words]


def settle(task: str, words: Sequence[str]) -> list[str]:
    """List the settings that the project was made with."""
    chosen = [word for word in words if word.startswith("dataset=")]
    found = [] if chosen or not task else list(SHAPES)
    found += ["logger=none", "loading.workers=0"]
    found += SHORT if task in LEARNING else [FEW] if task == "superpixels" else []
    return found


def make_project(folder: Path, run: Run) -> None:
    """Make the project, running commands in its folder.

    data/shapes-0                          a data set in VOC's layout, 6 + 3 images
    outputs/shapes                         the products of the pipeline, superpixels to masks
    outputs/shapes/cams                    CAMs with their attention
    photos/, labels.csv                    four photos (photo_0.jpg …) and their labels
    outputs/folder                         superpixels, cls.ckpt and coarse seeds of the photos
    outputs/folder/masks                   their masks by the network
    """
    # the generated images
    run(folder, pipeline())
    run(folder, infer("cls", "callbacks=cams"))

    # the photos
    pictures = sorted((folder / "data/shapes-0/JPEGImages").glob("train_*.jpg"))
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures[:4]):
        shutil.copy(picture, folder / f"photos/photo_{number}.jpg")
    rows = ["name,labels", "photo_0,circle", "photo_1,square", "photo_2,circle;star", "photo_3,"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    run(folder, infer("superpixels", *FOLDER))
    run(folder, train("cls", *LABELLED))
    run(folder, infer("network", *FOLDER))
