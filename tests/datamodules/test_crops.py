"""Views for segmentation networks."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.crops import ScaledCrop, find_largest_share
from datamodules.transforms import NoJitter, View
from fmawsss.resizing import ShortSide


def make_view(size=(60, 80), seed=None):
    if seed is None:
        seed = np.zeros(size, np.uint8)
        seed[:, size[1] // 2 :] = 3
    picture = np.repeat(seed[..., None] * 40, 3, axis=2).astype(np.uint8)
    return View(picture, seed, seed // 3 * 200)


def make_crop(**changes):
    settings = {
        "jitter": NoJitter(),
        "scales": [1.0],
        "longest": 2048,
        "crop": 32,
        "class_share": 1.0,
    }
    return ScaledCrop(**{**settings, **changes})


def test_image_seed_and_confidence_move_together():
    augment = make_crop(scales=[0.5, 1.0, 2.0])
    for number in range(20):
        view = augment(make_view(), np.random.default_rng(number))
        assert view.image.shape == (32, 32, 3)
        valid = view.seed != 255
        assert (view.confidence[valid] == view.seed[valid] // 3 * 200).all()
        off = np.abs(view.image[..., 0].astype(int) - view.seed * 40)
        assert np.median(off[valid]) == 0


def test_the_same_generator_gives_the_same_view_and_another_one_another():
    augment = make_crop(scales=[1.5])
    views = [augment(make_view(), np.random.default_rng(number)).seed for number in (0, 0, 1, 2, 3)]
    assert (views[0] == views[1]).all()
    assert any((views[0] != other).any() for other in views[2:])


def test_no_class_fills_a_crop_where_another_place_shows_two():
    shares = {0.6: [], 1.0: []}
    for limit, found in shares.items():
        augment = make_crop(scales=[2.5], class_share=limit)
        found += [
            find_largest_share(augment(make_view(), np.random.default_rng(n)).seed)
            for n in range(30)
        ]
    assert np.mean(np.array(shares[0.6]) > 0.6) < 0.5 * np.mean(np.array(shares[1.0]) > 0.6)
    lone = View(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8))
    assert make_crop(class_share=0.75)(lone, np.random.default_rng(0)).seed.max() == 0


def test_what_lies_outside_is_ignored_and_marked():
    view = make_crop(scales=[0.5])(make_view(), np.random.default_rng(0))
    assert view.padding[16:].all()
    assert (view.seed[16:] == 255).all()
    assert not view.padding[:16, :21].any()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((375, 500), (512, 672)), ((500, 375), (672, 512)), ((100, 1000), (192, 2048))],
)
def test_short_sides(size, expected):
    assert ShortSide(512, 2048, 32).find_size(size) == expected
