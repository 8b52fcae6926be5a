from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_tools import assert_close, load_case

from fmawsss.scores import (
    BackgroundAlpha,
    BackgroundPower,
    BackgroundThreshold,
    SoftmaxOverClasses,
    clip_cams,
    keep_cams,
    normalise_range,
    resize_maps,
    resize_then_score,
    score_cams,
    score_then_resize,
)

CASES = [
    "case6_score/seed_allneg",
    "case6_score/seed_down",
    "case6_score/seed_p1",
    "case6_score/seed_same",
]


@pytest.mark.parametrize("case", CASES)
def test_golden_scores(case):
    arrays, _ = load_case(case)
    size = tuple(arrays["dsize"].tolist())
    for order, score in (("rf1", resize_then_score), ("rf0", score_then_resize)):
        for suffix, dtype in (("", torch.float32), ("_f64", torch.float64)):
            name = f"score_torch_{order}{suffix}"
            assert_close(
                score(torch.from_numpy(arrays["cam"]).to(dtype), size),
                arrays[name],
                f"{case}:{name}",
            )
    assert_close(
        normalise_range(torch.from_numpy(arrays["cam"])),
        arrays["minmax_nothresh"],
        f"{case}:minmax_nothresh",
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("power", ["0.6", "1"])
def test_golden_background(case, power):
    arrays, _ = load_case(case)
    scores = resize_then_score(torch.from_numpy(arrays["cam"]), tuple(arrays["dsize"].tolist()))
    name = f"bgfg_score_torch_pow{power}"
    assert_close(BackgroundPower(float(power))(scores)[:1], arrays[name], f"{case}:{name}")


def test_score_clips_then_stretches_each_class_by_itself():
    cams = torch.tensor(
        [[[-3.0, 1.0], [2.0, 4.0]], [[-1.0, -2.0], [-3.0, -4.0]], [[2.0, 3.0], [4.0, 5.0]]]
    )
    expected = torch.tensor([[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]], [[0, 1 / 3], [2 / 3, 1]]])
    torch.testing.assert_close(score_cams(cams), expected)
    assert_close(
        score_cams(cams.flatten(1)),
        expected.flatten(1),
        "the masks of an image instead of its pixels",
    )


def test_maps_as_small_as_epsilon_do_not_reach_one():
    assert score_cams(torch.tensor([[0.0, 1e-7]])).max() == pytest.approx(0.5)


def test_variants_of_what_is_pooled():
    cams = torch.tensor([[-1.0, 2.0], [3.0, 1.0]])
    assert keep_cams(cams) is cams
    assert clip_cams(cams).tolist() == [[0, 2], [3, 1]]
    probabilities = SoftmaxOverClasses(gamma=2.0)(cams)
    expected = np.exp(2 * cams.numpy()) / np.exp(2 * cams.numpy()).sum(0)
    assert_close(probabilities, expected, "softmax over the classes")


def test_resizing_is_bilinear_between_pixel_centres():
    maps = torch.rand(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    height, width = 7, 13
    expected = torch.zeros(2, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            v, u = max((y + 0.5) * 4 / height - 0.5, 0), max((x + 0.5) * 5 / width - 0.5, 0)
            top, left = int(v), int(u)
            bottom, right, dv, du = min(top + 1, 3), min(left + 1, 4), v - top, u - left
            above = maps[:, top, left] * (1 - du) + maps[:, top, right] * du
            below = maps[:, bottom, left] * (1 - du) + maps[:, bottom, right] * du
            expected[:, y, x] = above * (1 - dv) + below * dv
    torch.testing.assert_close(resize_maps(maps, (height, width)), expected)
    torch.testing.assert_close(resize_maps(maps, (4, 5)), maps, rtol=0, atol=0)
    assert resize_maps(maps[:0], (7, 13)).shape == (0, 7, 13)


def test_order_of_scoring_and_resizing_matters():
    cams = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    assert resize_then_score(cams, (3, 3)).max() == pytest.approx(1)
    assert score_then_resize(torch.rand(1, 4, 4), (3, 3)).max() < 1


def test_backgrounds_stand_in_front_of_the_scores():
    scores = torch.tensor([[0.2, 0.9], [0.6, 0.1]])
    assert_close(
        BackgroundPower(2.0)(scores),
        np.array([[0.16, 0.01], [0.2, 0.9], [0.6, 0.1]], np.float32),
        "power",
    )
    assert_close(
        BackgroundThreshold(0.3)(scores),
        np.array([[0.3, 0.3], [0.2, 0.9], [0.6, 0.1]], np.float32),
        "value",
    )
    assert_close(
        BackgroundAlpha(2.0)(scores), np.array([[0.04, 0.81], [0.6, 0.1]], np.float32), "alpha"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_single_precision(dtype):
    cams = (torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)) * 1e-3).to(dtype)
    scores = resize_then_score(cams, (9, 9))
    assert scores.dtype == torch.float32
    assert scores.amax() == pytest.approx(1, abs=1e-3)
