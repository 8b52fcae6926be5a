"""What a run knows of files: asked once, opened once, never believed when they changed."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_trees import build_folder_tree
from front_door import run
from PIL import Image

import datamodules.file_checks
import infer
from datamodules.file_checks import check_image_file, check_mask_file, measure_image
from fmawsss.files.images import read_size
from fmawsss.files.listing import current, open_listing, read_facts, stamp_files
from fmawsss.files.png import write_palette_png
from fmawsss.files.writing import write_bytes
from fmawsss.viz import make_palette

SEEDS = [
    "task=cls", "prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam",
    "clip=tiny", "scored=null", "dataset/labels=folders", "dataset=folder", "logger=none",
    "data.workers=0", "report=none",
]  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the names of the files whose ends are read."""
    names: list[str] = []
    check = datamodules.file_checks.check_ends

    def check_ends(path: Path, *arguments, **words) -> bytes:
        names.append(path.name)
        return check(path, *arguments, **words)

    monkeypatch.setattr(datamodules.file_checks, "check_ends", check_ends)
    return names


def write_picture(path: Path, size: tuple[int, int], turned: bool = False) -> Path:
    picture = Image.fromarray(np.zeros((*size, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    picture.save(path, exif=exif)
    return path


def test_the_second_run_opens_no_image_but_the_one_that_changed(
    tmp_path: Path, monkeypatch, opened
) -> None:
    photos = build_folder_tree(tmp_path / "photos")
    words = [*SEEDS, f"dataset.root={photos}", f"paths.outputs={tmp_path}/out"]
    run(infer.main, monkeypatch, *words)
    assert sorted(opened) == ["a.v2.jpg", "b.jpg", "größe 1.jpg"]  # once each
    assert (tmp_path / "out/folder/.checked_files.json").is_file()

    opened.clear()
    run(infer.main, monkeypatch, *words)
    assert not opened

    # a photo that was cut off, at the same time of change
    path = photos / "cat/b.jpg"
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-20])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=r"cat/b\.jpg cannot be read"):
        run(infer.main, monkeypatch, *words)
    assert opened == ["b.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"version": 2}', '{"version": 1, "image": [], "mask": {}, "archive": {}}',
        '{"version": 1, "image": {"/a": {"b": [1, 2, 3]}}, "mask": {}, "archive": {}}',
        '{"version": 1, "image": {"/a": {"b": [1, 2, "3", 4]}}, "mask": {}, "archive": {}}',
        '{"version": 1, "image": {"/a": {"b": [1, 2, -3, 4]}}, "mask": {}, "archive": {}}',
        '{"version": 1, "image": {"/a": {"b": [1, 2, true, 4]}}, "mask": {}, "archive": {}}',
        '{"version": 1, "image": {}, "mask": {}, "archive": {}, "more": {}}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_listing_that_is_none_says_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "listing.json"
    path.write_text(text)
    assert read_facts(path) is None
    picture = write_picture(tmp_path / "a.jpg", (4, 6))
    with open_listing(path):
        check_image_file(picture)
    assert json.loads(path.read_text())["image"][str(tmp_path)]["a.jpg"][2:] == [4, 6]


def test_stamps_are_believed_within_a_run_until_it_makes_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    with open_listing(None):
        first = stamp_files([path, path])[0]
        path.write_text("longer")
        current().note_compared(tmp_path)
        assert (current().ask(path), current().is_compared(tmp_path)) == (first, True)
        current().forget()
        assert (current().ask(path).size, current().is_compared(tmp_path)) == (6, False)
    with open_listing(None, remembers=False):
        current().ask(path)
    path.write_text("much longer")
    assert current().ask(path).size == 11  # outside of a run nothing is


def test_what_was_read_is_shared_until_a_file_is_written(tmp_path: Path) -> None:
    numbers = iter(range(9))
    with open_listing(None):
        read = partial(current().read_once, "split", lambda: next(numbers))
        assert (read(), read()) == (0, 0)
        write_bytes(tmp_path / "a.txt", b"a")
        assert (read(), read()) == (1, 1)
        current().forget()
        assert (read(), read()) == (2, 2)
    read = partial(current().read_once, "split", lambda: next(numbers))
    assert (read(), read()) == (3, 4)


def test_pictures_are_measured_from_their_heads(tmp_path: Path, monkeypatch) -> None:
    pictures = [
        write_picture(tmp_path / "a.jpg", (40, 60)),
        write_picture(tmp_path / "turned.jpg", (40, 60), turned=True),
    ]
    for path in pictures:
        fact = check_image_file(path)
        assert (fact.height, fact.width) == read_size(path)
    monkeypatch.setattr(datamodules.file_checks, "read_size", None)
    assert [measure_image(path) for path in pictures] == [(40, 60), (60, 40)]


def test_a_mask_that_fits_is_opened_once_and_another_image_is_noticed(
    tmp_path: Path, opened
) -> None:
    mask, image = tmp_path / "a.png", write_picture(tmp_path / "a.jpg", (4, 6))
    write_palette_png(mask, np.zeros((4, 6), np.uint8), make_palette(256))
    check_mask_file(mask, image)
    check_mask_file(mask, image)
    assert opened == ["a.png"]
    write_picture(image, (8, 6))
    with pytest.raises(ValueError, match=r"has the size \(4, 6\), its image \(8, 6\)"):
        check_mask_file(mask, image)
