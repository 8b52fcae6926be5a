"""The affinities of METHOD 11.3, against slow versions of their formulas."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from superpixel_tools import make_superpixels

from fmawsss.affinity import compute_affinity, mask_boxes_released
from fmawsss.dino.encoder import PatchEncoder, Seen
from fmawsss.encoder_affinity import (
    MixedAttention,
    ProxyAffinity,
    SuperpixelAffinity,
    assign_patches,
    keep_all,
    keep_boxes,
    merge_regions,
    spare_inactive,
)
from fmawsss.scenes import Scene
from fmawsss.scores import keep_cams
from fmawsss.superpixels import Superpixels

GRID, SIZE = (4, 4), (16, 16)


class FakeEncoder(PatchEncoder):
    """Describe every image by the same features and attention, and count images."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.features = torch.randn(16, 5, generator=generator) + 0.3
        self.attention = torch.randn(16, 16, generator=generator).softmax(1)
        self.asked = []

    def encode(self, images, grid, attention_blocks):
        self.asked.append((len(images), grid, attention_blocks))
        count = len(images)
        attention = self.attention.expand(count, -1, -1) if attention_blocks else None
        return Seen(self.features.expand(count, -1, -1), attention)


def draw_superpixels():
    """Four masks: the left half, its upper part, a strip on the right, and a few pixels."""
    masks = torch.zeros(4, *SIZE, dtype=torch.bool)
    masks[0, :, :8] = True
    masks[1, :8, :8] = True
    masks[2, :, 12:] = True
    masks[3, 0, 8:10] = True
    return make_superpixels(masks, torch.tensor([2, 0, 1, 2]))


def draw_scene(pairs=2):
    generator = torch.Generator().manual_seed(0)
    return Scene(
        torch.randn(pairs, *GRID, generator=generator),
        torch.randn(16, 16, generator=generator).softmax(1),
        torch.arange(pairs),
        draw_superpixels(),
        SIZE,
        torch.zeros(*SIZE, 3, dtype=torch.uint8),
    )


def cosines_of(features):
    unit = features / features.norm(dim=1, keepdim=True)
    return (unit @ unit.T).double().numpy()


def normalise_rows(weights):
    return weights / weights.sum(axis=1, keepdims=True)


def test_mixed_attention_is_caa_on_the_mixture():
    encoder, scene = FakeEncoder(), draw_scene()
    refine = MixedAttention(encoder, keep_cams, 8, 1, 0.6, 1, 2, keep_all)
    (found,) = refine.refine_scenes([scene])
    mixed = 0.4 * scene.attention + 0.6 * encoder.attention
    power = np.linalg.matrix_power(compute_affinity(mixed, 1).numpy(), 2)
    expected = scene.cams.flatten(1).numpy() @ power.T
    np.testing.assert_allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-6)
    assert refine.attention_blocks == 8
    assert encoder.asked == [(1, GRID, 1)]


def test_columns_of_inactive_superpixels_are_left_out():
    scene, scores = draw_scene(1), torch.zeros(1, *GRID)
    scores[0, 2:, :2] = 1.0  # in half of the left mask, so its mean is 0.5; its upper part has none
    found = spare_inactive(scores, scene, threshold=0.5).view(GRID)
    assert found[:, :2].all()
    assert not found[:, 3].any()
    assert found[:, 2].all()  # no superpixel holds it
    assert not spare_inactive(scores, scene, threshold=0.6).view(GRID)[:, :2].any()

    # a class that is active anywhere keeps the column for all
    both = spare_inactive(torch.cat([torch.zeros_like(scores), scores]), scene, threshold=0.5)
    assert torch.equal(both[0], both[1])
    boxes = keep_boxes(scores, scene, 0.4)
    assert torch.equal(boxes, mask_boxes_released(scores, 0.4))

    # nothing comes from what is left out
    encoder = FakeEncoder()
    refine = MixedAttention(
        encoder, keep_cams, 8, 1, 0.6, 1, 1, partial(spare_inactive, threshold=0.5)
    )
    (before,) = refine.refine_scenes([replace(scene, cams=scores)])
    louder = scores.clone()
    louder[0, :, 3] = 0.2
    (after,) = refine.refine_scenes([replace(scene, cams=louder)])
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("block", [1 << 24, 48])
def test_the_proxy_is_the_formula(block, monkeypatch):
    monkeypatch.setattr("fmawsss.encoder_affinity.BLOCK", block)
    encoder, scene = FakeEncoder(), draw_scene()
    (found,) = ProxyAffinity(encoder, keep_cams, 1.2, 3.0).refine_scenes([scene])
    cosines = cosines_of(encoder.features)
    logits = 3 * (cosines - 1.2 * cosines.mean())
    weights = normalise_rows(np.where(logits < 0, 0, np.exp(logits)))
    expected = scene.cams.flatten(1).double().numpy() @ weights.T
    np.testing.assert_allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_patches_that_all_look_alike_keep_themselves():
    encoder, scene = FakeEncoder(), draw_scene()
    encoder.features = torch.ones(16, 5)  # no cosine is above 1.2 times their mean
    (found,) = ProxyAffinity(encoder, keep_cams, 1.2, 3.0).refine_scenes([scene])
    torch.testing.assert_close(found, scene.cams)


@pytest.mark.parametrize("alike", [None, 0.2])
def test_attention_stays_within_superpixels(alike):
    encoder, scene = FakeEncoder(), draw_scene()
    (found,) = SuperpixelAffinity(encoder, keep_cams, 4.0, alike).refine_scenes([scene])
    regions = assign_patches(GRID, scene.superpixels)
    if alike is not None:
        regions = merge_regions(
            torch.nn.functional.normalize(encoder.features, dim=1), regions, alike
        )
    same = (regions[:, None] == regions[None]).numpy()
    weights = normalise_rows(np.where(same, np.exp(4 * cosines_of(encoder.features)), 0))
    expected = scene.cams.flatten(1).double().numpy() @ weights.T
    np.testing.assert_allclose(found.flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_patches_belong_to_the_highest_superpixel_that_holds_them():
    found = assign_patches(GRID, draw_superpixels()).view(GRID)
    assert (found[:, :2] == 0).all()  # the whole, not its part
    assert (found[:, 2] == 4).all()  # none; a few pixels are not enough
    assert (found[:, 3] == 2).all()
    assert (assign_patches(GRID, Superpixels.empty(SIZE)) == 0).all()


def test_regions_are_joined_by_way_of_others():
    angles = torch.tensor([0.0, 20.0, 40.0, 90.0]).deg2rad()
    unit = torch.stack([angles.cos(), angles.sin()], dim=1)
    regions = torch.tensor([5, 7, 9, 2])
    found = merge_regions(unit, regions, alike=0.9)  # 25 degrees
    assert found[0] == found[1] == found[2] != found[3]
    assert len(merge_regions(unit, regions, alike=0.99).unique()) == 4


def test_images_of_one_grid_are_seen_together():
    encoder = FakeEncoder()
    small = replace(draw_scene(1), cams=torch.rand(1, 4, 4))
    scenes = [draw_scene(2), small, draw_scene(0)]
    found = ProxyAffinity(encoder, keep_cams, 1.2, 3.0).refine_scenes(scenes)
    assert [cams.shape for cams in found] == [scene.cams.shape for scene in scenes]
    assert encoder.asked == [(3, GRID, 0)]


def test_what_is_missing_is_said():
    scene, encoder = draw_scene(), FakeEncoder()
    with pytest.raises(ValueError, match="needs the image"):
        ProxyAffinity(encoder, keep_cams, 1.2, 3.0).refine_scenes([replace(scene, image=None)])
    with pytest.raises(ValueError, match="task=superpixels"):
        SuperpixelAffinity(encoder, keep_cams, 4.0, None).refine_scenes(
            [replace(scene, superpixels=None)]
        )
    with pytest.raises(ValueError, match="needs attention"):
        MixedAttention(encoder, keep_cams, 8, 1, 0.6, 1, 1, keep_all).refine_scenes(
            [replace(scene, attention=None)]
        )
