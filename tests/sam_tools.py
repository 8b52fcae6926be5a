"""Compare superpixels mask by mask: pixels may only differ within rounding of the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmawsss.sam.encoder import FusedEncoder
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import Frame, SamPoints
from fmawsss.superpixels import Superpixels, decode_masks

LOGIT_TOLERANCE = 1e-4  # of the largest logit of a mask: processors round differently
SCORE = 1e-5


def decode_golden(arrays: dict[str, np.ndarray], size: tuple[int, int]) -> Tensor:
    offsets = np.concatenate([[0], arrays["rle_lens"].cumsum()])
    return decode_masks(
        torch.from_numpy(arrays["rle_counts"]).int(), torch.from_numpy(offsets), size
    )


def find_flipped(
    generator: SuperpixelGenerator, image: np.ndarray, found: Superpixels, expected: Tensor
) -> Tensor:
    """List the pixels (mask, row, column) that differ; each logit must lie at the threshold."""
    flipped = (found.masks() != expected).nonzero()
    for mask, row, column in flipped.tolist():
        logits, (left, top) = draw_logits(generator, image, found, mask)
        logit = float(logits[row - top, column - left]) - generator.predictor.mask_threshold
        assert abs(logit) < find_rounding(logits), (
            f"mask {mask} differs at ({row}, {column}), where its logit is {logit}"
        )
    return flipped


def find_rounding(logits: Tensor) -> float:
    """Return how far rounding may move a logit: float32 errs in proportion to the largest."""
    return LOGIT_TOLERANCE * float(logits.abs().max())


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
        return predictor.enlarge_masks(crop, predictor.draw_masks(crop, answer, wanted))[0], (
            left,
            top,
        )


@dataclass(frozen=True)
class Counted:
    """What may differ from SAM because processors round differently."""

    flipped: int  # pixels whose logit is the threshold
    at_threshold: int  # masks that only one of the two kept


def compare_with_sam(
    generator: SuperpixelGenerator,
    image: np.ndarray,
    found: Superpixels,
    records: Sequence[Mapping[str, Any]],
) -> Counted:
    """Check masks against SAM's best of each point; count what differs by rounding alone."""
    pairs, lonely = match_masks(found, records)
    thresholds = generator.thresholds.predicted_iou, generator.thresholds.stability
    for scores in lonely:
        assert (
            min(abs(score - threshold) for score, threshold in zip(scores, thresholds, strict=True))
            < SCORE
        )
    expected = found.masks()
    for index, record in pairs:
        expected[index] = torch.from_numpy(record["segmentation"])
    flipped = find_flipped(generator, image, found, expected)
    for index, record in pairs:
        check_record(
            generator, image, found, index, record, touched=bool((flipped[:, 0] == index).any())
        )
    return Counted(len(flipped), len(lonely))


def match_masks(
    found: Superpixels, records: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[int, Mapping[str, Any]]], list[tuple[float, float]]]:
    """Pair the masks of equal crop, point and predicted IoU; list the scores of those left over."""
    left = list(range(len(found)))
    pairs, lonely = [], []
    for record in records:
        partners = [index for index in left if is_same(found, index, record)]
        if partners:
            left.remove(partners[0])
            pairs.append((partners[0], record))
        else:
            lonely.append((record["predicted_iou"], record["stability_score"]))
    return pairs, lonely + [
        (float(found.predicted_iou[i]), float(found.stability[i])) for i in left
    ]


def is_same(found: Superpixels, index: int, record: Mapping[str, Any]) -> bool:
    same_place = found.crop[index].tolist() == record["crop_box"]
    same_point = found.point[index].tolist() == record["point_coords"][0]
    return (
        same_place
        and same_point
        and abs(float(found.predicted_iou[index]) - record["predicted_iou"]) < SCORE
    )


def check_record(
    generator: SuperpixelGenerator,
    image: np.ndarray,
    found: Superpixels,
    index: int,
    record: Mapping[str, Any],
    touched: bool,
) -> None:
    """Check area and box unless a pixel flipped, and stability unless one is at its thresholds."""
    if not touched:
        assert int(found.area[index]) == record["area"]
        assert found.box[index].tolist() == record["bbox"]
    difference = abs(float(found.stability[index]) - record["stability_score"])
    if difference > SCORE:
        logits, _ = draw_logits(generator, image, found, index)
        offset = generator.thresholds.stability_margin
        near = sum(
            int(((logits - sign * offset).abs() < find_rounding(logits)).sum()) for sign in (1, -1)
        )
        assert difference <= SCORE + near / int((logits > -offset).sum())


EXACT = partial(FusedEncoder, dtype=torch.float32, bias_numbers=1 << 22, compile=None)
SPEED = {
    "predictor": SamPoints,
    "encoder": EXACT,
    "points_per_batch": 8,
    "crops_per_batch": 2,
    "chunk_megabytes": 4,
}
