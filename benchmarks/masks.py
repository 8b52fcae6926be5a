"""A whole image through SAM in the published settings, beside segment_anything's own generator."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator

from benchmarks.comparison import Comparison, Results
from benchmarks.inputs import QUICK as QUICK_INPUTS
from benchmarks.inputs import Setting
from benchmarks.superpixel_forms import NO_OFFSETS, choose_points, whole_frame
from benchmarks.superpixel_inputs import (
    PUBLISHED,
    QUICK,
    Sizes,
    build_sam,
    calibrate_sam,
    draw_image,
)
from fmawsss.sam.encoder import FusedEncoder
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import SamPoints

SPEED = {"points_per_batch": 512, "crops_per_batch": 5, "chunk_megabytes": 1024}  # speed=gpu


@torch.no_grad()
def compare_masks(name: str, sizes: Sizes, setting: Setting) -> Comparison:
    """Compare the masks of an image, in float32, before any filter; SAM has random weights."""
    sizes = QUICK if setting.sizes is QUICK_INPUTS else sizes
    sam, image = build_sam(sizes).to(setting.device), draw_image(sizes.image)
    encoder = partial(FusedEncoder, dtype=torch.float32, bias_numbers=1 << 28, compile=None)
    offsets = dict.fromkeys(("iou_offsets", "nms_offsets", "stability_offsets"), NO_OFFSETS)
    generator = SuperpixelGenerator(
        sam, SamPoints, encoder, **SPEED, **PUBLISHED, **offsets, recall_threshold=None
    )

    # half of the masks pass the predicted IoU, and half of all are stable
    predictor, points = generator.predictor, choose_points(sizes)[:8]
    crop = next(predictor.encode_crops([(image, whole_frame(sizes.image))], 1))
    answer = predictor.answer_points(crop, points)
    wanted = torch.ones(len(points), 3, dtype=torch.bool)
    calibrate_sam(sam, answer.iou, predictor.draw_masks(crop, answer, wanted))
    plain = SamAutomaticMaskGenerator(sam, points_per_batch=64, **PUBLISHED)

    def ours() -> Results:
        return {"covered": generator.generate(image).masks().sum(0, dtype=torch.uint8)}

    def plainly() -> Results:
        masks = [found["segmentation"] for found in plain.generate(image)]
        covered = np.sum([np.zeros(sizes.image, bool), *masks], axis=0, dtype=np.uint8)
        return {"covered": torch.from_numpy(covered)}

    # a mask at a threshold may pass on one side alone
    return Comparison(f"masks of an image, SAM {name}", ours, plainly, tolerance=0.05)
