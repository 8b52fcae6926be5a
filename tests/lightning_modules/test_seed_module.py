"""Seeds from CAMs on disk: those of a batch are those of its images, and a fault names its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from seeding_tools import cam_seeder, random_scene, sams
from superpixel_tools import make_superpixels

from fmawsss.affinity import AffinityRefiner, gather_inside, mask_boxes_released
from fmawsss.records import Batch, Cams
from fmawsss.scores import BackgroundAlpha, score_cams
from fmawsss.seeding import SeedMaker
from lightning_modules.seeds import SeedModule

CLASSES = [str(number) for number in range(19)]
PUBLISHED = AffinityRefiner(
    8, 1, 0.4, 2, score_cams, mask_boxes_released, gather_inside, gather_inside
)


def build(**seeders):
    kinds = {"cam": cam_seeder(), "caa": cam_seeder(), "sams": sams()} | seeders
    return SeedModule(SeedMaker(PUBLISHED, **kinds), CLASSES)


def draw_batch(pairs=(1, 2, 0, 1, 3, 2)):
    """Draw images of two sizes with so many CAMs each, named by letters."""
    cams, superpixels, sizes = [], [], []
    for seed, count in enumerate(pairs):
        size = (24, 31) if seed < 4 else (25, 30)
        maps, masks, levels, generator = random_scene(seed, count, size=size)
        classes = torch.randperm(19, generator=generator)[:count].sort().values
        attention = torch.randn(48, 48, generator=generator).softmax(-1)
        cams.append(Cams(maps, classes, attention))
        superpixels.append(make_superpixels(masks, levels))
        sizes.append(size)
    names = list("abcdef"[: len(pairs)])
    return Batch(names, None, sizes, cams=cams, superpixels=superpixels)


def take(batch, index):
    lists = {name: [getattr(batch, name)[index]] for name in ("names", "sizes", "cams")}
    return replace(batch, **lists, superpixels=[batch.superpixels[index]])


def test_a_batch_gets_the_seeds_of_its_images():
    module, batch = build(), draw_batch()
    together = module.predict_step(batch)
    for index, found in enumerate(together):
        (alone,) = module.predict_step(take(batch, index))
        assert found.name == alone.name
        assert torch.equal(found.refined, alone.refined)
        assert found.facts() == alone.facts()
        assert list(found.seeds) == ["cam", "caa", "sams"]
        for kind, mask in alone.masks().items():
            assert torch.equal(found.masks()[kind], mask)
            assert torch.equal(found.seeds[kind].confidence, alone.seeds[kind].confidence)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention": None}, "the CAMs of d: .*attention"),
        ({"classes": torch.tensor([19])}, "the CAMs of d name class 19"),
    ],
)
def test_the_image_at_fault_is_named(change, words):
    batch = draw_batch()
    batch.cams[3] = replace(batch.cams[3], **change)
    with pytest.raises(ValueError, match=words):
        build().predict_step(batch)


def test_an_image_whose_superpixels_cannot_be_painted_is_named():
    batch = draw_batch((2, 1))
    found = build(sams=sams(background=BackgroundAlpha(1.0))).predict_step(batch)
    with pytest.raises(ValueError, match="the CAMs of b: "):
        found[1].masks()
