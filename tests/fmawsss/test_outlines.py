"""Outlines of superpixels, and the distance to them, against what one would do by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from superpixel_tools import make_superpixels

from fmawsss.networks.outlines import FARTHEST, find_outlines, measure_clearance


def cut(masks):
    return make_superpixels(masks, torch.zeros(len(masks), dtype=torch.uint8))


@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_outlines_are_where_neighbours_lie_in_other_superpixels(count, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, height, width, generator=generator) > 0.5
    expected = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= a < height and 0 <= b < width:
                    expected[y, x] |= bool((masks[:, y, x] != masks[:, a, b]).any())
    assert np.array_equal(find_outlines(cut(masks)), expected)


def test_clearance_is_the_distance_to_the_nearest_outline():
    masks = torch.zeros(1, 20, 700, dtype=torch.bool)
    masks[0, :, :300] = True
    found = measure_clearance(cut(masks))
    x = np.arange(700)
    distance = np.where(x < 300, 299 - x, x - 300)
    assert np.array_equal(found, np.tile(np.minimum(distance, FARTHEST), (20, 1)))


@pytest.mark.parametrize("count", [0, 1])
def test_without_outlines_everything_is_far(count):
    found = measure_clearance(cut(torch.ones(count, 5, 4, dtype=torch.bool)))
    assert (found == FARTHEST).all()
