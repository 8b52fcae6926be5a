"""Images are resized in one order of passes, whichever version of Pillow is there."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from fmawsss.resizing import resize_by, resize_image

TALL = np.random.default_rng(0).integers(0, 256, (800, 533, 3), dtype=np.uint8)


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("method", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (900, 600)])
def test_no_pass_is_left_to_choose_for_pillow(method, size, monkeypatch):
    passes, resize = [], Image.Image.resize

    def note(image, wanted, *args, **kwargs):
        passes.append(image.width != wanted[0] and image.height != wanted[1])
        return resize(image, wanted, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", note)
    assert resize_by(TALL, size, method).shape == (*size, 3)
    assert passes == [False, False]


def test_tall_images_have_the_values_of_pillow_12():
    assert digest(resize_image(TALL, (300, 200))) == "33031d5873030f82"
    assert digest(resize_by(TALL, (300, 200), Image.Resampling.BILINEAR)) == "92bbded51ef2d101"


def test_a_size_that_is_there_changes_nothing():
    assert resize_image(TALL, (800, 533)) is TALL
