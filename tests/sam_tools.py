"""Compare superpixels mask by mask: a pixel may only differ where its logit is within rounding of the threshold."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from fmawsss.sam import SuperpixelGenerator
from fmawsss.sam_encoder import FusedEncoder
from fmawsss.sam_points import Frame
from fmawsss.superpixels import Superpixels, decode_masks

LOGIT_TOLERANCE = 1e-4  # processors round differently


def decode_golden(arrays: dict[str, np.ndarray], size: tuple[int, int]) -> Tensor:
    offsets = np.concatenate([[0], arrays["rle_lens"].cumsum()])
    return decode_masks(torch.from_numpy(arrays["rle_counts"]).int(), torch.from_numpy(offsets), size)


def find_flipped(generator: SuperpixelGenerator, image: np.ndarray, found: Superpixels, expected: Tensor) -> Tensor:
    """List the pixels (mask, row, column) that differ, after checking that each logit lies at the threshold."""
    flipped = (found.masks() != expected).nonzero()
    for mask, row, column in flipped.tolist():
        logits, (left, top) = draw_logits(generator, image, found, mask)
        logit = float(logits[row - top, column - left]) - generator.predictor.mask_threshold
        assert abs(logit) < LOGIT_TOLERANCE, f"mask {mask} differs at ({row}, {column}), where its logit is {logit}"
    return flipped


def draw_logits(
    generator: SuperpixelGenerator, image: np.ndarray, found: Superpixels, mask: int
) -> tuple[Tensor, tuple[int, int]]:
    """Ask for one mask of a record again: its logits in its crop, and the crop's corner (x, y)."""
    left, top, width, height = found.crop[mask].tolist()
    frame = Frame((left, top, left + width, top + height), found.size)
    wanted = torch.zeros(1, 3, dtype=torch.bool)
    wanted[0, int(found.level[mask])] = True
    predictor, points = generator.predictor, found.point[mask : mask + 1].numpy() - [left, top]
    with torch.no_grad():
        crop = next(predictor.encode_crops([(image, frame)], 1))
        answer = predictor.answer_points(crop, points)
        return predictor.enlarge_masks(crop, predictor.draw_masks(crop, answer, wanted))[0], (left, top)


EXACT = partial(FusedEncoder, dtype=torch.float32, bias_numbers=1 << 22, compile=None)
SPEED = {"encoder": EXACT, "points_per_batch": 8, "crops_per_batch": 2, "chunk_megabytes": 4}
