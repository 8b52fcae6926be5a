"""Seeds of a batch are those of its images one by one, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from seeding_tools import cam_seeder, random_scene, sams
from superpixel_tools import make_superpixels

from fmawsss.affinity import (
    AffinityRefiner,
    NoRefinement,
    gather_inside,
    gather_outside,
    mask_boxes_corrected,
    mask_boxes_released,
)
from fmawsss.scenes import Scene
from fmawsss.scores import (
    BackgroundThreshold,
    SoftmaxOverClasses,
    keep_cams,
    score_cams,
    score_then_resize,
)
from fmawsss.seeding import SeedMaker, pool_sum
from fmawsss.seeding_batches import make_seeds
from fmawsss.superpixels import Superpixels

PUBLISHED = AffinityRefiner(
    8, 1, 0.4, 2, score_cams, mask_boxes_released, gather_inside, gather_inside
)
MAKERS = {
    "published": SeedMaker(PUBLISHED, cam_seeder(), cam_seeder(), sams()),
    "other rules": SeedMaker(
        replace(
            PUBLISHED,
            values=SoftmaxOverClasses(2.0),
            mask_boxes=mask_boxes_corrected,
            outside_from=gather_outside,
            iterations=2,
        ),
        cam_seeder(score=score_then_resize, background=BackgroundThreshold(0.4)),
        cam_seeder(),
        sams(prepare=keep_cams, pool=pool_sum),
    ),
    "no refinement, filled": SeedMaker(
        NoRefinement(), cam_seeder(), cam_seeder(background=None), sams(fill=cam_seeder())
    ),
    "no power": SeedMaker(replace(PUBLISHED, power=0), cam_seeder(), cam_seeder(), sams()),
}


def draw_scene(seed, pairs, size=(24, 31), masks=True):
    cams, blobs, levels, generator = random_scene(seed, pairs, size=size)
    attention = torch.randn(48, 48, generator=generator).softmax(-1)
    classes = torch.randperm(19, generator=generator)[:pairs].sort().values
    superpixels = make_superpixels(blobs, levels) if masks else Superpixels.empty(size)
    return Scene(cams, attention, classes, superpixels, size, None)


def draw_scenes():
    """Draw images of one grid: 1, 2, 1, 3, 0 and 2 classes, one of another size, one bare."""
    scenes = [draw_scene(seed, pairs) for seed, pairs in enumerate((1, 2, 1, 3, 0, 2))]
    return [*scenes, draw_scene(6, 2, size=(25, 30)), draw_scene(7, 1, masks=False)]


@pytest.mark.parametrize("name", MAKERS)
def test_seeds_of_a_batch_are_those_of_its_images(name):
    maker, scenes = MAKERS[name], draw_scenes()
    refined, seeds, (beside,) = make_seeds(maker, scenes, beside=[torch.arange(3)])
    assert beside.tolist() == [0, 1, 2]
    for scene, cams, found in zip(scenes, refined, seeds, strict=True):
        expected = maker.make(
            scene.cams, scene.attention, scene.classes, scene.superpixels, scene.size
        )
        assert torch.equal(cams, expected[0])
        assert list(found) == list(expected[1])
        for kind, seed in expected[1].items():
            assert torch.equal(found[kind].labels, seed.labels)
            assert torch.equal(found[kind].confidence, seed.confidence)
            assert found[kind].fell_back == seed.fell_back
            assert (found[kind].masks is None) == (seed.masks is None)


def test_blocks_change_nothing(monkeypatch):
    whole = make_seeds(MAKERS["published"], draw_scenes())
    monkeypatch.setattr("fmawsss.scenes.BLOCK", 2 * 48 * 48)
    parts = make_seeds(MAKERS["published"], draw_scenes())
    assert all(map(torch.equal, whole[0], parts[0]))
    for one, other in zip(whole[1], parts[1], strict=True):
        assert all(torch.equal(one[kind].labels, other[kind].labels) for kind in one)


def test_without_superpixels_there_are_two_seeds():
    scenes = [replace(scene, superpixels=None) for scene in draw_scenes()]
    _, seeds, _ = make_seeds(MAKERS["published"], scenes)
    assert all(list(found) == ["cam", "caa"] for found in seeds)


@pytest.mark.gpu
def test_cuda_gives_the_seeds_of_the_cpu():
    def move(scene):
        cams, attention = scene.cams.cuda(), scene.attention.cuda()
        return replace(scene, cams=cams, attention=attention)

    scenes = [draw_scene(seed, pairs) for seed, pairs in enumerate((1, 2, 1, 3))]
    _, expected, _ = make_seeds(MAKERS["published"], scenes)
    _, found, _ = make_seeds(MAKERS["published"], list(map(move, scenes)))
    for one, other in zip(expected, found, strict=True):
        assert (one["sams"].labels == other["sams"].labels).float().mean() > 0.99
