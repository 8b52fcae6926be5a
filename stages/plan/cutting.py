"""How long SAM takes for an image on a CPU: blocks of its encoder, a few of the many points."""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from callbacks.pace import read_clock
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import FramedImage, PlainSamPoints, PointPredictor, SamPoints
from fmawsss.superpixels import ImageCutter
from stages.stage import Stage

SAM_POINTS = (PlainSamPoints, SamPoints)
POINTS = 64  # that are asked with
SLOW = 1.5  # seconds of an encoder, above which no whole image is cut
RECORD = 60_000  # bytes of the superpixels of an image, as docs/costs.md has them


@dataclass(frozen=True)
class Cut:
    """Seconds of an image, and how they were found."""

    seconds: float
    how: str


def load_photo(stage: Stage) -> UInt8[np.ndarray, "H W 3"]:
    """Load an image out of the middle, as the stage sees it."""
    data = stage.output.data
    assert data.whole is not None
    records = data.read_records(data.whole.split)
    originals = next(iter(data.whole_loader([records[len(records) // 2]]))).originals
    assert originals is not None
    image: UInt8[np.ndarray, "H W 3"] = originals[0]
    return image


def time_cut(cutter: ImageCutter, image: UInt8[np.ndarray, "H W 3"]) -> Cut:
    """Time a cutter on one image: SAM in parts where it is slow, others as a whole."""
    if isinstance(cutter, SuperpixelGenerator):
        parts = time_parts(cutter, image)
        if parts is not None:
            return parts
    begun = read_clock()
    cutter.generate_batch([image])
    return Cut(read_clock() - begun, "1 timed")


def time_parts(cutter: SuperpixelGenerator, image: UInt8[np.ndarray, "H W 3"]) -> Cut | None:
    """Time blocks of the encoder and some points on the whole image; None for a fast encoder.

    Crops are encoded as the image is, and points of crops cost what others do.
    """
    size = (image.shape[0], image.shape[1])
    frames = cutter.list_frames(size)
    frame = frames[0][0]
    with torch.inference_mode():
        crop, encoding = time_encoder(cutter.predictor, (image, frame))
        if encoding < SLOW:
            return None

        # few points, at even distances
        few, grid = copy(cutter), cutter.grids[0]
        few.grids = [grid[:: max(len(grid) // POINTS, 1)]]
        begun = read_clock()
        few.finish(few.search_crops([crop], [frame], 0)[0].cpu(), size)
        asking = (read_clock() - begun) / len(few.grids[0])
    points = sum(len(cutter.grids[layer]) for _, layer in frames)
    how = f"blocks of 1 of {len(frames)} crops, {len(few.grids[0])} of {points} points"
    return Cut(len(frames) * encoding + points * asking, how)


def time_encoder(predictor: PointPredictor, view: FramedImage) -> tuple[Any, float]:
    """Time the encoder on a view, of SAM's ViT one block of each kind, and return what it gave.

    Blocks of one window size cost the same, so the others are added up. Points are answered as fast
    by what one block made of an image.
    """

    def encode() -> tuple[Any, float]:
        begun = read_clock()
        crop = next(iter(predictor.encode_crops([view], 1)))
        return crop, read_clock() - begun

    encoder = predictor.sam.image_encoder if isinstance(predictor, SAM_POINTS) else None
    if not isinstance(encoder, ImageEncoderViT):
        return encode()
    blocks, kinds = encoder.blocks, defaultdict[int, list[nn.Module]](list)
    for block in blocks:
        kinds[block.window_size].append(block)

    # the encoder without blocks, then with one of each kind
    try:
        encoder.blocks = nn.ModuleList()
        _, seconds = bare = encode()
        for alike in kinds.values():
            encoder.blocks = nn.ModuleList(alike[:1])
            crop, one = encode()
            seconds += len(alike) * (one - bare[1])
    finally:
        encoder.blocks = blocks
    return crop, seconds
