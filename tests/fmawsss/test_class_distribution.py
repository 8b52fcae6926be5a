"""The affinity of METHOD 11.2, against a slow version of its formula."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import exp, log, log2

import numpy as np
import pytest
import torch
from seeding_tools import cam_seeder, sams

from fmawsss.affinity import compute_affinity
from fmawsss.class_distribution import (
    ClassDistributionRefiner,
    compare_patches,
    distribute_classes,
    gather_alike,
    measure_divergence,
)
from fmawsss.scenes import Scene
from fmawsss.scores import keep_cams, score_cams
from fmawsss.seeding import SeedMaker
from fmawsss.seeding_batches import make_seeds

REFINER = ClassDistributionRefiner(8, 1, 2, 5.0, 0.02, keep_cams)


def draw_scene(seed, pairs=2, grid=(4, 5), prompts=3):
    generator = torch.Generator().manual_seed(seed)
    patches = grid[0] * grid[1]
    cosines = torch.rand(patches, prompts, generator=generator, dtype=torch.float64)
    return Scene(
        torch.randn(pairs, *grid, generator=generator, dtype=torch.float64),
        torch.randn(patches, patches, generator=generator, dtype=torch.float64).softmax(-1),
        torch.arange(pairs),
        None,
        (32, 40),
        None,
        lambda: cosines,
    )


def refine_slowly(scene, power, sharpness, temperature):
    """Compute METHOD 11.2 entry by entry."""
    cosines = scene.compare().numpy()
    patches, prompts = cosines.shape
    u = np.zeros_like(cosines)
    for i in range(patches):
        for t in range(prompts):
            low, high = cosines[:, t].min(), cosines[:, t].max()
            u[i, t] = exp(sharpness * (cosines[i, t] - low) / (high - low + 1e-7))
        u[i] /= u[i].sum()

    # weights of each row, 1 - Jensen-Shannon over the temperature
    s = np.zeros((patches, patches))
    for i in range(patches):
        for j in range(patches):
            js = 0.0
            for p, q in zip(u[i], u[j], strict=True):
                js += (p * log(2 * p / (p + q)) + q * log(2 * q / (p + q))) / 2
            s[i, j] = (1 - js) / temperature
        s[i] = np.exp(s[i] - s[i].max())
        s[i] /= s[i].sum()
    affinity = np.linalg.matrix_power(s @ compute_affinity(scene.attention, 1).numpy(), power)
    return (scene.cams.flatten(1).numpy() @ affinity.T).reshape(scene.cams.shape)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_refiner_is_the_formula(power):
    scene = draw_scene(0)
    expected = refine_slowly(scene, power, 5.0, 0.02)
    (found,) = replace(REFINER, power=power).refine_scenes([scene])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert power == 0 or (found - scene.cams).abs().max() > 0.1


def test_scores_are_spread_where_they_are_asked_for():
    scene = draw_scene(1)
    (found,) = replace(REFINER, values=partial(score_cams), power=0).refine_scenes([scene])
    assert torch.equal(found, score_cams(scene.cams))


def test_divergence_by_hand():
    left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    found = measure_divergence(left, right)
    # the mean of (1, 0) and (1/2, 1/2) is (3/4, 1/4)
    mixed = (0.75 * log2(4 / 3) + 0.25 * 2 - 0.5) * log(2)
    torch.testing.assert_close(found, torch.tensor([[0.0, log(2), mixed]]))


def test_a_prompt_that_says_the_same_everywhere_says_nothing():
    found = distribute_classes(torch.full((4, 3), 0.2), 5.0)
    torch.testing.assert_close(found, torch.full((4, 3), 1 / 3))


def test_cosines_ignore_lengths_and_half_precision_is_widened():
    patches, texts = torch.randn(1, 4, 8), torch.randn(3, 8)
    found = compare_patches(patches, texts)
    torch.testing.assert_close(compare_patches(7 * patches, 0.1 * texts), found)
    assert compare_patches(patches.half(), texts.half()).dtype == torch.float32


def test_blocks_of_rows_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(2, 20, generator=generator)
    u = torch.randn(20, 3, generator=generator).softmax(1)
    whole = gather_alike(values, u, 0.1)
    monkeypatch.setattr("fmawsss.class_distribution.BLOCK", 3 * 20 * 3)
    torch.testing.assert_close(gather_alike(values, u, 0.1), whole)


def test_no_block_is_larger_than_its_limit(monkeypatch):
    sizes = []
    real = measure_divergence

    def watch(left, right):
        sizes.append(len(left) * right.numel())
        return real(left, right)

    monkeypatch.setattr("fmawsss.class_distribution.BLOCK", 200)
    monkeypatch.setattr("fmawsss.class_distribution.measure_divergence", watch)
    REFINER.refine_scenes([draw_scene(0), draw_scene(1)])
    assert sizes
    assert max(sizes) <= 200


def test_a_batch_is_refined_as_its_images():
    scenes = [draw_scene(seed, pairs) for seed, pairs in enumerate((1, 2, 1, 0, 2))]
    maker = SeedMaker(REFINER, cam_seeder(), cam_seeder(), sams())
    together, _, _ = make_seeds(maker, scenes)
    for scene, found in zip(scenes, together, strict=True):
        (alone,) = REFINER.refine_scenes([scene])
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


def test_cams_on_disk_are_refused_with_the_way_out():
    scene = replace(draw_scene(0), compare=None)
    with pytest.raises(ValueError, match="task=cls affinity=class_distribution"):
        REFINER.refine_scenes([scene])
    with pytest.raises(ValueError, match="needs attention"):
        REFINER.refine_scenes([replace(draw_scene(0), attention=None)])
