"""Masks and pictures come back from PNG files as written; what is no class mask is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmawsss.files.png import read_mask, write_palette_png, write_png

PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)


def test_masks_are_indexed_pngs(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    mask = np.random.default_rng(0).integers(0, 256, (13, 17)).astype(np.uint8)
    for given, colours in ((mask, PALETTE), (torch.from_numpy(mask), torch.from_numpy(PALETTE))):
        write_palette_png(path, given, colours)
        assert np.array_equal(read_mask(path), mask)
        with Image.open(path) as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image.convert("RGB")), PALETTE[mask])
    Image.fromarray(mask).save(path)
    assert np.array_equal(read_mask(path), mask)


def test_short_palettes_keep_all_indices(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    write_palette_png(tmp_path / "mask.png", mask, PALETTE[:3])
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_are_read(bits: int, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2**bits, (7, 5)).astype(np.uint8)
    image = Image.fromarray(mask)
    image.putpalette(PALETTE[: 2**bits].tobytes())
    image.save(tmp_path / "mask.png", bits=bits)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (Image.new("RGB", (4, 4)), "PNG of mode RGB with 8 bits"),
        (Image.new("RGBA", (4, 4)), "mode RGBA"),
        (Image.new("LA", (4, 4)), "mode LA"),
        (Image.fromarray(np.zeros((4, 4), np.uint16)), "with 16 bits"),
        (Image.new("1", (4, 4)), "with 1 bits"),
    ],
)
def test_other_pictures_are_no_masks(image: Image.Image, found: str, tmp_path: Path) -> None:
    image.save(tmp_path / "mask.png")
    with pytest.raises(
        ValueError, match=rf"mask\.png is no class mask: expected an indexed.*found .*{found}"
    ):
        read_mask(tmp_path / "mask.png")


def test_jpegs_and_broken_pngs_are_no_masks(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (4, 4)).save(path, format="jpeg")
    with pytest.raises(ValueError, match="JPEG of mode L"):
        read_mask(path)
    write_palette_png(
        path, np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8), PALETTE
    )
    data = path.read_bytes()
    for keep in (0, 20, 60, len(data) // 2):
        path.write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"mask\.png cannot be read as a PNG mask"):
            read_mask(path)


def test_pictures_are_written(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_png(tmp_path / "picture.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture)
