"""The points of several crops are asked together, and a device is seldom waited for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from golden_sam import golden_sam
from sam_tools import EXACT, SPEED
from segment_anything.modeling import Sam
from torch import Tensor

from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import Frame, SamPoints, embed_points, embed_tokens, scale_points
from fmawsss.tiny.models import tiny_sam

OPEN = {
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 512 / 1500,
    "min_mask_region_area": 0,
    "iou_offsets": (0.0, 0.0, 0.0),
    "nms_offsets": (0.0, 0.0, 0.0),
    "stability_offsets": (0.0, 0.0, 0.0),
}


def draw_image(height: int, width: int) -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    return blocks.repeat(16, 0).repeat(16, 1)[:height, :width].astype(np.uint8)


@pytest.mark.parametrize("make_sam", [tiny_sam, golden_sam])
def test_crops_asked_together_get_the_answers_of_each(make_sam: Callable[[], Sam]) -> None:
    predictor, size = SamPoints(make_sam(), EXACT), (90, 130)
    boxes = [(0, 0, 130, 90), (0, 0, 80, 60), (50, 30, 130, 90)]
    views = [(draw_image(*size), Frame(box, size)) for box in boxes]
    points = np.random.default_rng(2).random((3, 5, 2)) * [80, 60]
    with torch.no_grad():
        crops = list(predictor.encode_crops(views, 3))
        together = predictor.answer_crops(crops, points)
        wanted = torch.ones(5, 3, dtype=torch.bool)
        for crop, own, found in zip(crops, points, together, strict=True):
            alone = predictor.answer_points(crop, own)
            torch.testing.assert_close(found.iou, alone.iou, rtol=1e-5, atol=1e-5)
            masks, expected = (predictor.draw_masks(crop, a, wanted) for a in (found, alone))
            scale = float(expected.abs().max())
            torch.testing.assert_close(masks, expected, rtol=0, atol=1e-4 * scale)


def test_tokens_of_points_are_those_of_sam() -> None:
    sam, points = golden_sam(), np.random.default_rng(3).random((7, 2)) * 40
    with torch.no_grad():
        tokens, _ = embed_points(sam, (41, 53), (50, 64), points)
        found = embed_tokens(sam, scale_points(points, (41, 53), (50, 64)))
    assert torch.equal(found, tokens)


def test_a_device_is_read_a_few_times_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SPEED | OPEN | {"points_per_side": 4, "crop_n_layers": 1}
    settings |= {
        "crop_n_points_downscale_factor": 2,
        "points_per_batch": 16,
        "crops_per_batch": 5,
        "recall_threshold": None,
    }
    generator, read = SuperpixelGenerator(tiny_sam(), **settings), []

    def watch(tensors: list[Tensor]) -> list[Tensor]:
        read.append(len(tensors))
        return tensors

    monkeypatch.setattr("fmawsss.sam.thresholds.fetch", watch)
    assert len(generator.generate(draw_image(90, 130))) > 2
    # predicted IoU, then stability and boxes: of the image, and of its four crops together
    assert len(read) == 4
    assert read[2] == 4
