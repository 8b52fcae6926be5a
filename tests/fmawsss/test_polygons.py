from __future__ import annotations

import doctest

import numpy as np
import pytest

import fmawsss.files.polygons
from fmawsss.files.polygons import trace_polygons

# pycocotools 2.0.11 decodes through an array interface that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


def paint(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The mask that COCO's own tools read from polygons."""
    rle = pytest.importorskip("pycocotools.mask")
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(
        rle.merge(rle.frPyObjects([p.reshape(-1).tolist() for p in polygons], *size))
    ).astype(bool)


def test_a_square_has_four_corners() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:7] = True
    (polygon,) = trace_polygons(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(2, 1), (2, 3), (7, 1), (7, 3)]


def test_a_ring_is_cut_at_its_hole() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    polygons = trace_polygons(mask)
    assert len(polygons) == 2
    assert (paint(polygons, (5, 5)) == mask).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_any_mask_comes_back_from_its_polygons(share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((17, 23)) < share
    assert (paint(trace_polygons(mask), (17, 23)) == mask).all()


def test_a_large_smooth_mask_comes_back() -> None:
    y, x = np.mgrid[:200, :300]
    mask = (np.sin(x / 17) + np.cos(y / 11) > 0.3) | ((x - 150) ** 2 + (y - 100) ** 2 < 900)
    polygons = trace_polygons(mask)
    assert (paint(polygons, (200, 300)) == mask).all()


def test_examples_run() -> None:
    assert doctest.testmod(fmawsss.files.polygons).failed == 0
