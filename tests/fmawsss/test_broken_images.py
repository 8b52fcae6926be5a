"""Pictures that decoders believe, and whole ones that they stumble over."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from fmawsss.files.images import read_image, read_size, try_image

NOISE = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
PICTURE = np.asarray(Image.fromarray(NOISE).resize((120, 90)))
GREY = PICTURE.copy()
GREY[50:] = 128  # what decoders fill up with
END = b"\xff\xd9"


def encode(array, **settings):
    memory = io.BytesIO()
    Image.fromarray(array).save(memory, "JPEG", **settings)
    return memory.getvalue()


@pytest.mark.parametrize("array", [PICTURE, GREY, GREY[..., 0]])
@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_data_that_end_too_early_are_refused(tmp_path, array, settings):
    path, data = tmp_path / "a.jpg", encode(array, **settings)
    for read in (read_image, try_image):
        for whole in (data, data + bytes(500), data + b"trailer" * 99):
            path.write_bytes(whole)
            read(path)
        path.write_bytes(data[: len(data) // 2] + END)
        with pytest.raises(ValueError, match=r"a\.jpg cannot be read \(its data end too early"):
            read(path)


def test_zeros_in_place_of_data_are_refused(tmp_path):
    path, data = tmp_path / "a.jpg", encode(PICTURE, subsampling=0)
    path.write_bytes(data[: len(data) // 2] + bytes(len(data)))
    for read in (try_image, read_image):
        with pytest.raises(ValueError, match=r"a\.jpg cannot be read"):
            read(path)


# resolution, unit, positions of colours, each as text where a number belongs
@pytest.mark.parametrize("tag", [0x011A, 0x0128, 0x0213])
def test_other_exif_tags_may_be_of_any_kind(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = bytearray(exif.tobytes())
    entry = block.index(b"\x12\x01\x03\x00" if b"II" in block else b"\x01\x12\x00\x03")
    order = "little" if b"II" in block else "big"
    broken = tag.to_bytes(2, order) + (2).to_bytes(2, order) + (4).to_bytes(4, order) + b"abc\0"
    count = int.from_bytes(block[entry - 2 : entry], order)
    block[entry - 2 : entry] = (count + 1).to_bytes(2, order)
    block[entry + 12 : entry + 12] = broken
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE).save(path, exif=bytes(block))
    assert read_size(path) == try_image(path) == (120, 90)
    plain = tmp_path / "b.jpg"
    Image.fromarray(PICTURE).save(plain)
    assert (read_image(path) == np.rot90(read_image(plain), -1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    turned = {
        1: PICTURE, 2: PICTURE[:, ::-1], 3: PICTURE[::-1, ::-1], 4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2), 6: np.rot90(PICTURE, -1),
        7: np.rot90(PICTURE, 2).transpose(1, 0, 2), 8: np.rot90(PICTURE),
    }  # fmt: skip
    assert (read_image(tmp_path / "a.png") == turned[orientation]).all()

    # a plain TIFF of one channel, which Pillow would map into memory with its sides exchanged
    Image.fromarray(PICTURE[..., 0]).save(tmp_path / "a.tif", exif=exif)
    assert (read_image(tmp_path / "a.tif") == turned[orientation][..., :1]).all()
    assert try_image(tmp_path / "a.tif") == turned[orientation].shape[:2]


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 3)])
def test_small_jpegs_are_whole(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "a.jpg")
    assert try_image(tmp_path / "a.jpg") == size[::-1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg.*no file to read"):
        try_image(tmp_path / "a.jpg")
