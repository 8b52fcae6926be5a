from __future__ import annotations

import doctest
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from fake_trees import draw_image
from PIL import Image

import datamodules.images as images_file
from datamodules.images import find_missing, index_images, name_files
from fmawsss.files.images import read_image, read_size, try_image

COLOURS = np.array(
    [[[200, 30, 60], [10, 220, 90]], [[0, 0, 0], [255, 255, 255]], [[5, 5, 200], [128, 128, 128]]],
    np.uint8,
)


def save(path: Path, picture: Image.Image, **more: object) -> Path:
    picture.save(path, **more)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_colours_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"größe 1.{suffix}", Image.fromarray(COLOURS))
    assert (read_image(path) == COLOURS).all()
    assert read_size(path) == (3, 2)


def test_lossless_webp_and_jpeg(tmp_path: Path) -> None:
    assert (
        read_image(save(tmp_path / "a.webp", Image.fromarray(COLOURS), lossless=True)) == COLOURS
    ).all()
    smooth = draw_image(0, (30, 40))
    read = read_image(save(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95)).astype(int)
    assert np.abs(read - smooth).mean() < 3


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    assert (read_image(path) == np.rot90(COLOURS, -1)).all()
    assert read_size(path) == (2, 3)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert(mode)
    assert (
        read_image(save(tmp_path / "a.png", grey)) == np.array([[0, 255], [255, 0]])[..., None]
    ).all()


def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16)))
    assert (read_image(path) == np.array([[0, 0, 1, 255]])[..., None]).all()
    # one value is transparent (tRNS): only it is laid on white
    content = path.read_bytes()
    start = content.index(b"IDAT") - 4
    chunk = b"tRNS" + (256).to_bytes(2)
    path.write_bytes(
        content[:start] + (2).to_bytes(4) + chunk + crc32(chunk).to_bytes(4) + content[start:]
    )
    assert (read_image(path) == np.array([[0, 0, 255, 255]])[..., None]).all()
    assert try_image(path) == (1, 4)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([9, 8, 7, 250, 240, 230])
    assert read_image(save(tmp_path / "a.png", picture)).tolist() == [[[9, 8, 7], [250, 240, 230]]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[100, 50, 0, 0], [100, 50, 0, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 255, 255], [100, 50, 0], [204, 204, 204]]]
    assert read_image(save(tmp_path / "a.png", Image.fromarray(pixels))).tolist() == expected
    grey = Image.fromarray(np.array([[0, 1]], np.uint8))
    assert read_image(save(tmp_path / "b.png", grey, transparency=0)).tolist() == [
        [[255] * 3, [1] * 3]
    ]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.fromarray(draw_image(0, (16, 16))).convert("CMYK")
    read = read_image(save(tmp_path / "a.jpg", cmyk, quality=100))
    assert read.shape == (16, 16, 3)
    assert np.abs(read.astype(int) - np.asarray(cmyk.convert("RGB"))).mean() < 4


def test_float_values_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(ValueError, match=r"a\.tiff.*mode F"):
        read_image(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.jpg", Image.fromarray(draw_image(0, (60, 60))))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read.*copy or convert it again"):
        read_image(path)


def test_other_files_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read"):
        read_image(tmp_path / "a.jpg")
    for read in (read_image, read_size):
        with pytest.raises(FileNotFoundError, match=r"b\.jpg does not exist"):
            read(tmp_path / "b.jpg")


def test_names_keep_inner_dots_and_must_differ(tmp_path: Path) -> None:
    for name in ("a.v2.JPG", "b.png", "c.txt"):
        (tmp_path / name).touch()
    assert sorted(index_images(tmp_path)) == ["a.v2", "b"]
    with pytest.raises(ValueError, match="share the name 'b'"):
        name_files(tmp_path, [tmp_path / "b.png", tmp_path / "b.jpeg"])


def test_examples_run() -> None:
    assert doctest.testmod(images_file).failed == 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff"])
def test_trying_gives_the_upright_size(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    settings = {} if suffix == "bmp" else {"exif": exif}
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(draw_image(0, (31, 70))), **settings)
    assert try_image(path) == read_size(path) == read_image(path).shape[:2]


def test_trying_refuses_what_reading_refuses(tmp_path: Path) -> None:
    cut = save(tmp_path / "cut.jpg", Image.fromarray(draw_image(0, (60, 60))))
    cut.write_bytes(cut.read_bytes()[:-300])
    floats = save(tmp_path / "a.tiff", Image.fromarray(np.zeros((2, 2), np.float32)))
    for path in (cut, floats):
        with pytest.raises(ValueError, match=path.name):
            try_image(path)


def test_missing_files_are_those_that_are_neither_there_nor_linked(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "there.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    there = [tmp_path / "there.jpg", tmp_path / "link.jpg"]
    missing = [tmp_path / "broken.jpg", tmp_path / "gone.jpg", tmp_path / "no folder/a.jpg"]
    assert find_missing([*there, *missing]) == missing
