from __future__ import annotations

import doctest
import functools
import multiprocessing

import numpy as np
import pytest
from golden_tools import assert_close, load_case

import datamodules.transforms as transforms_file
from datamodules.transforms import (
    ColourChange,
    ColourJitter,
    FixedView,
    NoAugment,
    NoJitter,
    RandomView,
    View,
    change_colours,
    change_colours_released,
    draw_range_size,
    find_range_size,
    resize_mask,
)
from fmawsss.metrics import IGNORE
from fmawsss.resizing import AlignToPatch, KeepSize, Normaliser, ResizeSquare, resize_image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PUBLISHED_JITTER = ColourJitter(25, (0.6, 1.4), (0.5, 1.5), 25, change_colours)
SPEC_KEYS = ("delta_bright", "mul_contract", "mul_saturate", "delta_hue")


def make_view(size: tuple[int, int] = (90, 120)) -> View:
    """A view whose seed can be read off its image."""
    seed = np.random.default_rng(0).integers(0, 4, size, dtype=np.uint8)
    return View(np.repeat(seed[..., None] * 60, 3, axis=2), seed)


@pytest.mark.parametrize("index", range(10))
def test_released_jitter_equals_the_golden_images(index: int) -> None:
    arrays, meta = load_case("case11_aug/color_jitter")
    spec = meta["specs"][index]
    change = ColourChange(tuple(spec[key] for key in SPEC_KEYS), tuple(spec["jitter_order"]))
    changed = change_colours_released(np.ascontiguousarray(arrays["img_bgr"][..., ::-1]), change)
    assert_close(changed[..., ::-1], arrays[f"out{index}"], f"out{index}")


@pytest.mark.parametrize("index", [1, 2, 3, 4, 5])
def test_our_jitter_differs_only_where_the_released_one_reflects(index: int) -> None:
    arrays, meta = load_case("case11_aug/color_jitter")
    change = ColourChange(tuple(meta["specs"][index][key] for key in SPEC_KEYS), (0, 1, 2, 3))
    changed = change_colours(np.ascontiguousarray(arrays["img_bgr"][..., ::-1]), change)
    assert_close(changed[..., ::-1], arrays[f"out{index}"], f"out{index}")


def test_brightness_clips_and_hue_wraps() -> None:
    dark = np.full((1, 1, 3), 5, np.uint8)
    down = ColourChange((-20.0, None, None, None), (0, 1, 2, 3))
    assert change_colours(dark, down).max() == 0
    assert change_colours_released(dark, down).min() == 15

    violet = np.array([[[255, 0, 10]]], np.uint8)  # just below a full turn of hue
    turn = ColourChange((None, None, None, 25.0), (0, 1, 2, 3))
    red, green, blue = change_colours(violet, turn)[0, 0].tolist()
    assert red == 255
    assert green > blue


def test_the_jitter_flips_four_coins_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    draws = [PUBLISHED_JITTER.draw(rng) for _ in range(2000)]
    bounds = ((-25, 25), (0.6, 1.4), (0.5, 1.5), (-25, 25))
    for index, (low, high) in enumerate(bounds):
        amounts = [draw.amounts[index] for draw in draws if draw.amounts[index] is not None]
        assert 0.45 < len(amounts) / 2000 < 0.55
        assert low <= min(amounts) < low + 0.1 * (high - low)
        assert high >= max(amounts) > high - 0.1 * (high - low)
    assert len({draw.order for draw in draws}) == 24


@pytest.mark.parametrize("case", ["landscape", "small"])
def test_range_resize_and_crop_equal_the_golden_images(case: str) -> None:
    arrays, meta = load_case(f"case11_aug/range_scale_crop_{case}")
    for index, item in enumerate(meta["items"]):
        size = find_range_size(arrays["lb"].shape, item["object_size"], 224)
        assert list(size) == item["scaled_hw"]
        top, left = item["offset"]
        image, mask = resize_image(arrays["img"], size), resize_mask(arrays["lb"], size)
        crop = np.s_[top : top + 224, left : left + 224]
        assert_close(image[crop], arrays[f"crop_img{index}"], f"crop_img{index}")
        assert_close(mask[crop], arrays[f"crop_lb{index}"], f"crop_lb{index}")
        assert_close(
            image[crop][:, ::-1].sum(0), arrays[f"mirror_sum{index}"], f"mirror_sum{index}"
        )


def test_prediction_sizes_equal_the_golden_images() -> None:
    arrays, _ = load_case("case11_aug/infer_align_landscape")
    source, _ = load_case("case11_aug/range_scale_crop_landscape")
    window = np.s_[100:196, 150:278]
    for resize, key in ((AlignToPatch(16), "aligned"), (ResizeSquare(320, 1), "sq320")):
        size = resize.find_size(source["lb"].shape)
        assert_close(resize(source["img"])[window], arrays[key], key)
        assert_close(resize_mask(source["lb"], size), arrays[f"{key}_lb"], f"{key}_lb")
    rgb = AlignToPatch(16)(np.ascontiguousarray(source["img"][..., ::-1]))
    normalised = Normaliser(CLIP_MEAN, CLIP_STD)(rgb).transpose(2, 0, 1)[:, 100:196, 150:278]
    assert normalised.dtype == np.float32
    assert (
        np.abs(normalised - arrays["tensor"]).max() <= np.abs(arrays["tensor"]).max() * 2**-11
    )  # stored in fp16


def test_the_range_is_closed_and_the_short_side_has_a_floor() -> None:
    rng = np.random.default_rng(0)
    sizes = [draw_range_size((375, 500), (288, 480), 224, rng) for _ in range(3000)]
    assert {max(size) for size in sizes} == set(range(299, 481))
    assert min(min(size) for size in sizes) == 224


@pytest.mark.parametrize("mirrored", [False, True])
def test_seeds_move_with_their_image(mirrored: bool) -> None:
    augment = RandomView(NoJitter(), long_side=(120, 120), short_side=90, crop=64)
    views = [augment(make_view(), np.random.default_rng(seed)) for seed in range(20)]
    assert all((view.image == view.seed[..., None] * 60).all() for view in views)
    assert all(view.image.shape == (64, 64, 3) and view.padding is None for view in views)
    source = make_view().seed[:, ::-1] if mirrored else make_view().seed
    windows = np.lib.stride_tricks.sliding_window_view(source, (64, 64))
    found = [
        any((windows[:, x] == view.seed).all(axis=(1, 2)).any() for x in range(57))
        for view in views
    ]
    assert 4 <= sum(found) <= 16  # a fair coin


def test_the_generator_alone_decides() -> None:
    augment = RandomView(PUBLISHED_JITTER, (60, 140), 50, 48)
    first, again, other = (augment(make_view(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.image == again.image).all()
    assert (first.seed == again.seed).all()
    assert (first.image != other.image).any()


def test_a_crop_beyond_the_image_is_padded_right_and_below() -> None:
    augment = RandomView(NoJitter(), long_side=(40, 40), short_side=30, crop=64)
    view = augment(make_view(), np.random.default_rng(0))
    outside = np.ones((64, 64), bool)
    outside[:30, :40] = False
    assert (view.padding == outside).all()
    assert ((view.seed == IGNORE) == outside).all()
    assert augment(View(make_view().image, None), np.random.default_rng(0)).padding.any()


def test_fixed_and_unchanged_views() -> None:
    view, rng = make_view((30, 40)), np.random.default_rng(0)
    fixed = FixedView(16)(view, rng)
    assert fixed.image.shape == (16, 16, 3)
    assert fixed.seed.shape == (16, 16)
    assert NoAugment(1)(view, rng) is view


def test_images_as_they_are_are_padded_to_whole_patches():
    view = View(
        np.full((5, 8, 3), 9, np.uint8), np.ones((5, 8), np.uint8), np.full((5, 8), 7, np.uint8)
    )
    padded = NoAugment(4)(view, np.random.default_rng(0))
    assert padded.image.shape == (8, 8, 3)
    assert (padded.padding == (np.arange(8)[:, None] >= 5)).all()
    assert (padded.seed[5:] == 255).all()
    assert (padded.seed[:5] == 1).all()
    assert (padded.confidence[:5] == 7).all()
    assert KeepSize()(view.image) is view.image


def test_an_aligned_image_is_not_touched() -> None:
    image = make_view((32, 48)).image
    assert AlignToPatch(16)(image) is image
    assert AlignToPatch(16).find_size((33, 48)) == (48, 48)


def test_views_travel_to_workers() -> None:
    augment = RandomView(PUBLISHED_JITTER, (60, 140), 50, 48)
    here, there = multiprocessing.Pipe()
    here.send((augment, Normaliser(CLIP_MEAN, CLIP_STD), functools.partial(change_colours)))
    copies = there.recv()
    views = [a(make_view(), np.random.default_rng(0)).image for a in (augment, copies[0])]
    assert (views[0] == views[1]).all()


def test_examples_run() -> None:
    assert doctest.testmod(transforms_file).failed == 0
