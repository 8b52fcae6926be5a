"""Check and run judge files alike: what `task=check` calls fine is read, the rest told alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from front_door import run
from odd_files import spoil_archive, write_odd_image, write_odd_mask
from superpixel_tools import make_superpixels

import infer
from datamodules.batches import check_mask
from datamodules.file_checks import check_archive, check_image_file, check_mask_file
from datamodules.given_cams import read_cam_classes
from fmawsss.files.images import read_image, read_size, try_image
from fmawsss.files.png import read_mask, write_png
from fmawsss.files.storage import (
    read_cams,
    read_superpixels,
    write_cams,
    write_half_cams,
    write_superpixels,
)
from fmawsss.records import Cams, ImageRecord
from stages.jobs.check import find_record_faults

pytestmark = pytest.mark.filterwarnings("ignore")  # of decoders, about what they leave out
SHORT = range(250)
FOLDER = ["dataset=folder", "logger=none", "data.workers=0", "report=none"]
SEEDS = [
    "task=cls", "prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam",
    "clip=tiny", "scored=null", "dataset/labels=file",
]  # fmt: skip


def judge(read: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """Return what a reader says, nothing for a good file, and what it read."""
    try:
        return "", read(*arguments)
    except (ValueError, FileNotFoundError) as error:
        return str(error), None


def judge_image(seed: int, folder: Path) -> str:
    """Judge an image as the check, the preflight and a stage do; return what they say."""
    path = write_odd_image(seed, folder)
    checked, size = judge(try_image, path)
    opened, _ = judge(check_image_file, path)
    read, image = (opened, None) if opened else judge(read_image, path)
    assert checked == read, (seed, path)
    assert not checked or path.name in checked
    if not checked:
        assert size == image.shape[:2] == read_size(path), seed
    path.unlink()
    return checked


def judge_mask(seed: int, folder: Path) -> str:
    """Judge a mask likewise."""
    size = (6, 9)
    image = folder / "image.png"
    if not image.exists():
        write_mask_image(image, size)
    path = write_odd_mask(seed, folder, size)
    _, checked, _, _ = find_record_faults(ImageRecord("a", image, (), path), 2)
    read, _ = judge(lambda: check_mask(read_mask(path), path, size, 2))
    assert checked == read, seed
    assert judge(check_mask_file, path, image)[0] in ("", checked), seed
    path.unlink()
    return checked


def write_mask_image(path: Path, size: tuple[int, int]) -> None:
    write_png(path, np.zeros((*size, 3), np.uint8))


def judge_cams(seed: int, folder: Path) -> str:
    """Judge a file of CAMs as the comparison with labels and a stage do."""
    memory, path = folder / "whole.npz", folder / f"{seed}.npz"
    maps, attention = torch.rand(2, 4, 5), torch.rand(20, 20)
    write = write_half_cams if seed % 2 else write_cams
    write(memory, Cams(maps, torch.tensor([-1, 3]), attention if seed % 3 else None, "cls"), "f")
    path.write_bytes(spoil_archive(seed, memory.read_bytes()))
    read, cams = judge(read_cams, path)
    seen, classes = judge(read_cam_classes, path)
    opened, _ = judge(check_archive, path)
    assert not read or path.name in read
    assert not opened or read, seed
    assert not seen or read, seed
    if not read:
        assert classes == {*cams.classes.tolist()} - {-1}, seed
        assert cams.maps.dtype == torch.float32
        assert cams.maps.numel() or not len(cams.classes), seed
    path.unlink()
    return read


def judge_superpixels(seed: int, folder: Path) -> str:
    """Judge a file of superpixels likewise."""
    whole, path = folder / "whole.npz", folder / f"{seed}.npz"
    masks = torch.rand(3, 6, 7) > 0.3
    write_superpixels(whole, make_superpixels(masks, torch.arange(3)), "f")
    path.write_bytes(spoil_archive(seed, whole.read_bytes()))
    read, superpixels = judge(read_superpixels, path)
    opened, _ = judge(check_archive, path)
    assert not read or path.name in read
    assert not opened or read, seed
    if not read:
        assert superpixels.masks().shape == (3, *superpixels.size), seed
    path.unlink()
    return read


def test_odd_images_are_judged_alike(tmp_path: Path) -> None:
    told = [judge_image(seed, tmp_path) for seed in SHORT]
    assert 50 < sum(map(bool, told)) < 200  # both kinds occur


def test_odd_masks_are_judged_alike(tmp_path: Path) -> None:
    told = [judge_mask(seed, tmp_path) for seed in SHORT]
    assert 50 < sum(map(bool, told)) < 200


def test_odd_cams_are_refused_by_name(tmp_path: Path) -> None:
    told = [judge_cams(seed, tmp_path) for seed in SHORT]
    assert 50 < sum(map(bool, told)) < 240


def test_odd_superpixels_are_refused_by_name(tmp_path: Path) -> None:
    told = [judge_superpixels(seed, tmp_path) for seed in SHORT]
    assert 50 < sum(map(bool, told)) < 240


def test_what_the_check_calls_fine_is_seeded(tmp_path: Path, monkeypatch, capsys) -> None:
    """Through the front door: a stage stops with the check's words, or reads all that is left."""
    (tmp_path / "photos").mkdir()
    paths = [write_odd_image(seed, tmp_path / "photos") for seed in range(3000, 3040)]
    folder = [*FOLDER, f"dataset.root={tmp_path}/photos", f"paths.outputs={tmp_path}/out"]
    rows = [f"{path.stem},cat" for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["name,labels", *rows]))
    words = [*SEEDS, *folder, f"dataset.labels.path={tmp_path}/labels.csv"]

    # the check, then the stage
    with pytest.raises(SystemExit):
        run(
            infer.main,
            monkeypatch,
            "task=check",
            "job.workers=0",
            "job.shown=99",
            *folder[:2],
            *folder[4:],
        )
    told = capsys.readouterr().out
    with pytest.raises(ValueError, match="cannot be read") as error:
        run(infer.main, monkeypatch, *words)
    first = str(error.value).splitlines()[0]
    assert "".join(first.split()) in "".join(told.split())

    # without what the check names
    bad = [path for path in paths if path.name in told]
    assert 5 < len(bad) < 35
    for path in bad:
        path.unlink()
    run(infer.main, monkeypatch, *words)
    for path in set(paths).difference(bad):
        seed = read_mask(tmp_path / f"out/folder/seeds/coarse/{path.stem}.png")
        assert seed.shape == read_size(path)
