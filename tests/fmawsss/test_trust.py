"""Pixels that people have corrected, against the plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmawsss.files.polygons import fill_polygon, trace_polygons
from fmawsss.networks.targets import PixelTargets, trust_corrected
from fmawsss.sam.partitions import record_partition
from fmawsss.seeding import Seed
from fmawsss.trust import (
    choose_factor,
    correct_values,
    lay_trusted,
    list_trusted_classes,
    measure_overlap,
    weigh_background,
)


def test_values_are_the_mean_over_pixels_of_what_is_known_of_each():
    rng = np.random.default_rng(0)
    superpixels = record_partition(rng.integers(0, 5, (9, 7)))
    trusted = torch.from_numpy(rng.choice([0, 1, 3, 255], (9, 7)).astype(np.uint8))
    values = torch.from_numpy(rng.random((len(superpixels), 4))).float()
    values = values / values.sum(dim=1, keepdim=True)
    found = correct_values(values, trusted, superpixels)

    # pixel by pixel
    for number, mask in enumerate(superpixels.masks()):
        expected = torch.zeros(4)
        for label in trusted[mask].tolist():
            expected += values[number] if label == 255 else torch.eye(4)[label]
        torch.testing.assert_close(found[number], expected / mask.sum())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(superpixels)))


def test_a_superpixel_that_is_wholly_trusted_has_its_label_histogram():
    superpixels = record_partition(np.array([[0, 0, 0, 0, 1, 1]]))
    trusted = torch.tensor([[2, 2, 2, 0, 255, 255]], dtype=torch.uint8)
    found = correct_values(torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]), trusted, superpixels)
    assert found.tolist() == [[0.25, 0, 0.75], [0.5, 0.5, 0]]


def test_a_seed_shows_what_is_trusted_at_the_size_of_the_image():
    seed = Seed(torch.tensor([[1, 2]], dtype=torch.uint8), torch.tensor([[0.25, 0.5]]), False)
    trusted = torch.full((2, 4), 255, dtype=torch.uint8)
    trusted[1, 3] = 0
    found = lay_trusted(seed, trusted)
    assert found.labels.tolist() == [[1, 1, 2, 2], [1, 1, 2, 0]]
    assert found.confidence.tolist() == [[0.25, 0.25, 0.5, 0.5], [0.25, 0.25, 0.5, 1.0]]
    assert list_trusted_classes(trusted, 3).tolist() == [False, False, False]


def test_the_background_is_weighed_and_nothing_changes_for_one():
    scores = torch.tensor([[0.5, 0.25, 0.25]])
    assert weigh_background(scores, 1.0) is scores
    assert weigh_background(scores, 0.5).tolist() == [[0.25, 0.25, 0.25]]
    assert weigh_background(torch.tensor([[0.9, 0.1]]), 1.25)[0, 0] == 1


def test_the_factor_with_the_best_seeds_is_chosen_and_one_where_all_are_alike():
    assert choose_factor({0.5: [0.2, 0.3], 1.0: [0.4, 0.1], 1.25: [0.1, 0.6]}) == 1.25
    assert choose_factor({0.5: [0.2], 1.0: [0.2], 1.25: [0.2]}) == 1.0
    assert choose_factor({0.5: [], 1.0: []}) == 1.0


def test_the_overlap_counts_foreground_of_either_mask():
    labels = torch.tensor([[0, 1, 1, 2, 2, 0]], dtype=torch.uint8)
    trusted = torch.tensor([[0, 1, 2, 2, 255, 1]], dtype=torch.uint8)
    assert measure_overlap(labels, trusted) == 2 / 4
    assert measure_overlap(labels * 0, trusted * 0) == 1


@pytest.mark.parametrize("shared", ["weight", "certainty"])
def test_trusted_pixels_are_learned_with_weight_one_whatever_the_targets_say(shared):
    seeds = torch.tensor([[[1, 2, 0]]], dtype=torch.uint8)
    trusted = torch.tensor([[[True, False, True]]])
    ignored = torch.tensor([[[255, 255, 0]]])
    half = torch.full((1, 1, 3), 0.5)
    found = trust_corrected(PixelTargets(ignored, **{shared: half}), seeds, trusted)
    assert found.labels.tolist() == [[[1, 255, 0]]]
    assert getattr(found, shared).tolist() == [[[1.0, 0.5, 1.0]]]
    plain = PixelTargets(ignored)
    assert trust_corrected(plain, seeds, None) is plain


def test_polygons_around_a_mask_fill_it_again():
    rng = np.random.default_rng(0)
    for size in ((17, 23), (1, 9), (40, 31)):
        mask = rng.random(size) > 0.4
        filled = np.zeros(size, bool)
        for polygon in trace_polygons(mask):
            filled |= fill_polygon(polygon.astype(float), size)
        np.testing.assert_array_equal(filled, mask)


def test_a_pixel_is_inside_a_polygon_where_its_centre_is():
    rng = np.random.default_rng(1)
    corners = rng.uniform(-3, 15, (7, 2))
    found = fill_polygon(corners, (12, 11))
    for row in range(12):
        for column in range(11):
            x, y, inside = column + 0.5, row + 0.5, False
            for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                if (b > y) != (d > y) and x < a + (y - b) * (c - a) / (d - b):
                    inside = not inside
            assert found[row, column] == inside
