"""Seeders of the published settings, and scenes to try them on."""

from __future__ import annotations

import torch
from superpixel_tools import draw_blobs

from fmawsss.scores import (
    BackgroundPower,
    BackgroundThreshold,
    clip_cams,
    resize_then_score,
    score_cams,
)
from fmawsss.seeding import (
    CamSeeder,
    SuperpixelSeeder,
    higher_confidence,
    higher_level,
    pool_mean,
)


def cam_seeder(**changes):
    return CamSeeder(
        **{"score": resize_then_score, "background": BackgroundPower(1.0), "crf": None} | changes
    )


def sams(**changes):
    settings = {
        "prepare": clip_cams,
        "pool": pool_mean,
        "normalise": score_cams,
        "background": BackgroundPower(0.6),
        "priority": [higher_level, higher_confidence],
        "fallback": cam_seeder(),
        "fill": None,
    }
    return SuperpixelSeeder(**settings | changes)


def random_scene(seed, pairs=3, number=12, size=(24, 31)):
    generator = torch.Generator().manual_seed(seed)
    cams = torch.randn(pairs, 6, 8, generator=generator)
    masks = draw_blobs(generator, number, size)
    masks[3] = masks[1]
    levels = torch.randint(0, 3, (number,), generator=generator)
    return cams, masks, levels, generator


def read_background(method):
    """Read `pow0.6` or `thresh0.3`."""
    if method.startswith("pow"):
        return BackgroundPower(float(method.removeprefix("pow")))
    return BackgroundThreshold(float(method.removeprefix("thresh")))
