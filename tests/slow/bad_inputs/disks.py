"""Bad inputs: disks, links and permissions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .judge import BadInput
from .project import FOLDER, LABELLED, infer, pipeline, train

WORK = "outputs/shapes"
ELSEWHERE = "paths.outputs=|paths.work=|paths.data=|cache.store.folder=|another folder"
ALLOW = "permission|Permission|allow|read"


def case(
    name: str, command: Sequence[str], prepare: Callable[[Path], Any], names: str, tells: str
) -> BadInput:
    """Spoil the surroundings of a run."""
    return BadInput(name, "surroundings", command, prepare, names, tells)


def lock(file: str, mode: int = 0o555) -> Callable[[Path], Any]:
    """Take permissions from a file or a folder, which is made where it is missing."""

    def prepare(folder: Path) -> None:
        path = folder / file
        if not path.exists():
            path.mkdir(parents=True)
        path.chmod(mode)

    return prepare


def link(file: str, target: str) -> Callable[[Path], Any]:
    """Put a link in the place of whatever is there."""

    def prepare(folder: Path) -> None:
        clear(folder / file)
        (folder / file).symlink_to(target)

    return prepare


def put_file(file: str, text: str = "") -> Callable[[Path], Any]:
    """Put a file in the place of whatever is there."""

    def prepare(folder: Path) -> None:
        clear(folder / file)
        (folder / file).write_text(text)

    return prepare


def put_folder(file: str) -> Callable[[Path], Any]:
    """Put a folder in the place of whatever is there."""

    def prepare(folder: Path) -> None:
        clear(folder / file)
        (folder / file).mkdir()

    return prepare


def put_pipe(file: str) -> Callable[[Path], Any]:
    """Put a pipe, which a reader would wait for, in the place of whatever is there."""

    def prepare(folder: Path) -> None:
        clear(folder / file)
        os.mkfifo(folder / file)

    return prepare


def clear(path: Path) -> None:
    """Remove what is there, and make the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def nothing(folder: Path) -> None:
    """Spoil nothing: the command alone is wrong."""


NEW = infer("superpixels", *FOLDER, "paths.work=new")
CASES: list[BadInput] = [
    # Where a run writes
    case(
        "outputs_are_a_file",
        pipeline("paths.outputs=taken"),
        put_file("taken"),
        "taken",
        ELSEWHERE,
    ),
    case("work_below_a_file", [*NEW[:-1], "paths.work=labels.csv/x"], nothing, "labels", ELSEWHERE),
    case("work_is_a_loop_of_links", NEW, link("new", "new"), "new", ELSEWHERE),
    case("work_is_a_link_to_nowhere", NEW, link("new", "gone/away"), "new", ELSEWHERE),
    case("work_is_locked", NEW, lock("new"), "new", ELSEWHERE),
    case("work_is_no_disk", [*NEW[:-1], "paths.work=/proc/new"], nothing, "/proc/new", ELSEWHERE),
    case("work_is_a_device", [*NEW[:-1], "paths.work=/dev/full"], nothing, "full", ELSEWHERE),
    case(
        "name_of_work_too_long",
        [*NEW[:-1], f"paths.work={'n' * 300}"],
        nothing,
        "nnn",
        ELSEWHERE,
    ),
    case(
        "seeds_are_locked",
        train("seg", "overwrite=true"),
        lock(f"{WORK}/seeds/fine"),
        "seeds/fine",
        ELSEWHERE,
    ),
    case(
        "seeds_are_a_file",
        infer("cls", "emits=taken"),
        put_file("taken"),
        "taken",
        "emits=|another|folder",
    ),
    case(
        "runs_are_locked",
        infer("superpixels", "overwrite=true"),
        lock(f"{WORK}/runs"),
        "runs",
        f"{ELSEWHERE}|{ALLOW}",
    ),
    case(
        "checkpoints_are_a_file",
        train("network", "overwrite=true"),
        put_file(f"{WORK}/checkpoints"),
        "checkpoints",
        f"{ELSEWHERE}|remove|folder",
    ),
    case(
        "checkpoint_is_a_folder",
        infer("cls"),
        put_folder(f"{WORK}/cls.ckpt"),
        r"cls\.ckpt",
        "no checkpoint.*make it",
    ),
    case(
        "record_is_a_folder",
        infer("superpixels"),
        put_folder(f"{WORK}/superpixels.json"),
        r"superpixels\.json",
        "folder|remove|delete|file",
    ),
    case(
        "data_cannot_be_drawn",
        ["train.py", "paths.data=locked", "paths.work=new", "logger=none"],
        lock("locked"),
        "locked",
        ELSEWHERE,
    ),
    case(
        "cache_is_locked",
        train(
            "seg", "cache=features", "cache.views=2", "cache.store.folder=locked", "overwrite=true"
        ),
        lock("locked"),
        "locked",
        ELSEWHERE,
    ),
    # What a run reads
    case("photo_is_locked", NEW, lock("photos/photo_1.jpg", 0), r"photo_1\.jpg", ALLOW),
    case("photos_are_locked", NEW, lock("photos", 0), "photos", ALLOW),
    case(
        "photo_is_a_link_to_nowhere",
        NEW,
        link("photos/photo_1.jpg", "x.jpg"),
        "photo_1",
        "dataset.root",
    ),
    case(
        "photo_is_a_loop_of_links",
        NEW,
        link("photos/photo_1.jpg", "photo_1.jpg"),
        "photo_1",
        "dataset.root",
    ),
    case(
        "folder_of_photos_is_locked",
        NEW,
        lock("photos/more", 0),
        "photos/more",
        ALLOW,
    ),
    case("photo_is_a_pipe", NEW, put_pipe("photos/photo_9.jpg"), "photo_9", "file"),
    case(
        "labels_are_locked",
        train("cls", *LABELLED, "overwrite=true"),
        lock("labels.csv", 0),
        r"labels\.csv",
        ALLOW,
    ),
    case(
        "labels_are_a_pipe",
        train("cls", *LABELLED, "overwrite=true"),
        put_pipe("labels.csv"),
        r"labels\.csv",
        "file",
    ),
    case(
        "checkpoint_is_locked",
        infer("network", *FOLDER, "paths.work=new", f"ckpt={WORK}/network.ckpt"),
        lock(f"{WORK}/network.ckpt", 0),
        r"network\.ckpt",
        ALLOW,
    ),
    case(
        "checkpoint_is_a_device",
        infer("network", *FOLDER, "paths.work=new", "ckpt=/dev/zero"),
        nothing,
        "/dev/zero",
        "file|checkpoint",
    ),
    case(
        "record_is_locked",
        infer("cls"),
        lock(f"{WORK}/cls.ckpt.json", 0),
        r"cls\.ckpt\.json",
        ALLOW,
    ),
    case(
        "cut_scores",
        infer("network", "split=train"),
        put_file(f"{WORK}/scores.json", '{"network": {"va'),
        r"scores\.json",
        "again|remove|delete",
    ),
    case(
        "cut_settings_of_a_drawn_data_set",
        infer("superpixels", "paths.work=new"),
        put_file("data/shapes-0/shapes.json", '{"version": 1,'),
        r"shapes\.json",
        "delete|remove|again",
    ),
    case(
        "cut_validations",
        train("network", "val_every=1", "overwrite=false"),
        put_file(f"{WORK}/network.ckpt.validations.jsonl", '{"step"\n{"step": 3}\n'),
        r"network\.ckpt",
        "overwrite=true",
    ),
]
