"""Bad inputs that are met seldom: checkpoints, products, places."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from . import checkpoints, products
from .judge import BadInput
from .project import FOLDER, infer
from .spoil import Prepare, change_arrays, cut, each, in_place, write

WORK = "outputs/shapes"


def around(name: str, command: Sequence[str], prepare: Prepare, names: str, tells: str) -> BadInput:
    """Something else in a place where a run reads or writes."""
    return BadInput(name, "surroundings", command, prepare, names, tells)


def put_folder(file: str) -> Prepare:
    """Put a folder in the place of a file, or of nothing."""
    return in_place(file, lambda path: path.mkdir(parents=True))


def put_file(file: str) -> Prepare:
    """Put a file in the place of a folder."""

    def prepare(folder: Path) -> None:
        shutil.rmtree(folder / file, ignore_errors=True)
        (folder / file).write_text("taken")

    return prepare


def save_safetensors(folder: Path) -> None:
    """Save the network's weights in another format."""
    from safetensors.torch import save_file

    content = torch.load(folder / checkpoints.NETWORK, weights_only=True)
    save_file(content["state_dict"], folder / checkpoints.FOREIGN)


def climb_out(folder: Path) -> None:
    """Write an archive whose names lead out of it."""
    with zipfile.ZipFile(folder / checkpoints.FOREIGN, "w") as archive:
        for name in ("../../data.pkl", "../../version"):
            archive.writestr(name, b"3\n")


def say_huge(file: str) -> Prepare:
    """Say in the head of an array that it is huge."""

    def prepare(folder: Path) -> None:
        memory = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            memory, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        )
        with zipfile.ZipFile(folder / file) as archive:
            names = archive.namelist()
        with zipfile.ZipFile(folder / file, "w") as archive:
            for name in names:
                archive.writestr(name, memory.getvalue())

    return prepare


CAM = f"{products.CAMS}/train_00001.npz"
OTHER = "DIR|another|choose|remove|delete|take|folder|file"
SUPERPIXEL = f"{products.SUPERPIXELS}/train_00001.npz"

CASES: list[BadInput] = [
    # checkpoints
    checkpoints.file("safetensors", save_safetensors, checkpoints.DELETE),
    checkpoints.file("names_lead_out", climb_out, checkpoints.DELETE),
    checkpoints.file(
        "of_prompts",
        lambda folder: shutil.copy(folder / WORK / "cls.ckpt", folder / checkpoints.FOREIGN),
        "no checkpoint of a network",
    ),
    checkpoints.weights(
        "complex", lambda key, value: value.to(torch.complex64), "belong to|number|finite"
    ),
    checkpoints.weights(
        "sparse", lambda key, value: value.to_sparse(), checkpoints.DISTRUST + "|belong"
    ),
    checkpoints.network(
        "weights_nested",
        lambda c: c.update(state_dict={"network": c["state_dict"]}),
        "",
        "belong|trust",
    ),
    checkpoints.learned(
        "contexts_longer_than_a_text",
        lambda c: {"state_dict": {"prompt_learner.ctx": torch.zeros(90, 64)}},
        "contexts",
        "at most|longer|room|width|choose",
    ),
    # products
    products.case("superpixels_say_huge", products.LEARN_CLS, say_huge(SUPERPIXEL), r"train_00001"),
    products.cams("say_huge", say_huge(CAM)),
    products.cams(
        "a_class_twice",
        change_arrays(
            CAM, classes=lambda a: np.repeat(a[:1], len(a)) if len(a) > 1 else np.repeat(a, 2)
        ),
        ".",
    ),
    products.case(
        "record_in_another_encoding",
        infer("cls"),
        write(f"{WORK}/cls.ckpt.json", '{"é": 1}'.encode("latin-1")),
        r"cls\.ckpt\.json",
    ),
    # places
    around(
        "scores_are_a_folder",
        infer("network", "split=train"),
        each(lambda f: (f / WORK / "scores.json").unlink(), put_folder(f"{WORK}/scores.json")),
        r"scores\.json",
        OTHER,
    ),
    around(
        "report_is_a_folder",
        infer("report"),
        each(lambda f: (f / WORK / "report.html").unlink(), put_folder(f"{WORK}/report.html")),
        r"report\.html",
        OTHER,
    ),
    around(
        "lock_is_a_folder",
        infer("network", "overwrite=true"),
        put_folder(f"{WORK}/.masks.1.lock"),
        r"lock",
        OTHER,
    ),
    around(
        "overlays_are_a_file",
        infer("network", *FOLDER, "overwrite=true"),
        put_file("outputs/folder/overlays"),
        "overlays",
        OTHER,
    ),
    around(
        "pictures_are_a_file",
        infer("cls", "overwrite=true"),
        put_file(f"{WORK}/pictures"),
        "pictures",
        OTHER,
    ),
    around(
        "exports_are_a_file",
        infer("network", *FOLDER, "overwrite=true"),
        put_file("outputs/folder/exports"),
        "exports",
        OTHER,
    ),
    # superpixels that travel
    products.case(
        "package_of_text",
        infer("unpack", "package=superpixels.tar"),
        write("superpixels.tar", b"no archive at all"),
        r"superpixels\.tar",
        "no package of superpixels",
    ),
    products.case(
        "package_nowhere", infer("unpack", "package=no.tar"), each(), r"no\.tar", "correct the path"
    ),
    products.case("package_unnamed", infer("unpack"), each(), "task=unpack", "package=FOLDER"),
    products.case(
        "packed_after_a_cut",
        infer("export", "format=superpixels"),
        write(f"{WORK}/superpixels/train_00001.npz", cut),
        r"train_00001\.npz",
        products.AGAIN,
    ),
]
