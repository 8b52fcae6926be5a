"""Boundary IoU against a slow, obvious version."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmawsss.boundaries import count_boundaries, find_band


def find_band_slowly(mask, distance):
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        window = [
            (j, i)
            for j in range(y - distance, y + distance + 1)
            for i in range(x - distance, x + distance + 1)
        ]
        band[y, x] = any(not (0 <= j < height and 0 <= i < width and mask[j, i]) for j, i in window)
    return band


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_the_band_is_the_obvious_one(distance):
    mask = np.random.default_rng(0).random((12, 15)) < 0.95
    assert (find_band(mask, distance) == find_band_slowly(mask, distance)).all()


def test_equal_masks_score_one_though_their_edge_is_ignored():
    truth = torch.zeros(100, 100, dtype=torch.uint8)
    truth[20:60, 20:60] = 2
    mask = truth.clone()
    truth[18:22, 18:62] = 255
    shared, either = count_boundaries(mask, truth, 3).unbind(1)
    assert (shared == either).all()
    assert shared[1] == 0 < shared[2]


def test_a_shifted_square_by_hand():
    """100 x 100: bands are round(0.02 · 141.4) = 3 wide; squares of 40, the second one column to
    the right.
    """
    truth, mask = torch.zeros(100, 100, dtype=torch.uint8), torch.zeros(100, 100, dtype=torch.uint8)
    truth[20:60, 20:60], mask[20:60, 21:61] = 1, 1
    shared, either = count_boundaries(mask, truth, 2)[1].tolist()
    ring = 40 * 40 - 34 * 34
    # rows near top and bottom share 39 columns, the others two columns at each side
    assert shared == 6 * 39 + 34 * 4
    assert either == 2 * ring - shared


def test_predictions_of_no_class_are_wrong():
    truth = torch.ones(10, 10, dtype=torch.uint8)
    shared, either = count_boundaries(torch.full_like(truth, 255), truth, 2)[1].tolist()
    assert (shared, either) == (0, 36)
