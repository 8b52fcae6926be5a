"""Targets of networks, by hand and against a slow version."""

from __future__ import annotations

import pytest
import torch

from fmawsss.networks.targets import (
    find_boundaries,
    ignore_boundaries,
    ignore_uncovered,
    ignore_unsure,
    know_edges,
    soften_by_confidence,
    trust_seeds,
    weigh_by_confidence,
)

SEEDS = torch.tensor([[[0, 2, 255]]], dtype=torch.uint8)
CONFIDENCE = torch.tensor([[[51, 0, 255]]], dtype=torch.uint8)


def test_confidence_by_hand():
    assert trust_seeds(SEEDS, None).labels.tolist() == [[[0, 2, 255]]]
    assert ignore_unsure(SEEDS, CONFIDENCE, threshold=0.1).labels.tolist() == [[[0, 255, 255]]]
    assert ignore_uncovered(SEEDS, CONFIDENCE).labels.tolist() == [[[0, 255, 255]]]
    assert weigh_by_confidence(SEEDS, CONFIDENCE).weight.tolist() == [[[pytest.approx(0.2), 0, 1]]]
    soft = soften_by_confidence(SEEDS, CONFIDENCE, floor=0.5).certainty
    assert soft.tolist() == [[[pytest.approx(0.6), 0.5, 1]]]


@pytest.mark.parametrize("radius", [1, 2])
def test_boundaries_are_the_obvious_ones(radius):
    seeds = torch.zeros(2, 9, 11, dtype=torch.uint8)
    seeds[0, :, 6:], seeds[0, 3:5, 4:8] = 4, 255
    seeds[1, 2:6, 2:6] = 7
    expected = torch.zeros_like(seeds, dtype=torch.bool)
    for image, y, x in (seeds != 255).nonzero().tolist():
        window = seeds[
            image, max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1
        ]
        expected[image, y, x] = len(set(window.flatten().tolist()) - {255}) > 1
    assert torch.equal(find_boundaries(seeds, radius), expected)
    assert (
        (ignore_boundaries(seeds, None, radius).labels == 255) == (expected | (seeds == 255))
    ).all()


def test_edges_are_left_alone_and_what_lies_outside_an_image():
    clearance = torch.tensor([[[3, 9, 255]]], dtype=torch.uint8)
    found = know_edges(SEEDS, CONFIDENCE, 0.5, 2.0, radius=8, clearance=clearance)
    assert found.inner.tolist() == [[[False, True, False]]]
    assert found.smoothness == 2.0
    assert found.certainty.tolist() == [[[pytest.approx(0.6), 0.5, 1]]]
    with pytest.raises(ValueError, match="need superpixels"):
        know_edges(SEEDS, CONFIDENCE, 0.5, 2.0, radius=8)


def test_missing_confidence_is_asked_for():
    with pytest.raises(ValueError, match="callbacks=seed_confidence"):
        weigh_by_confidence(SEEDS, None)
