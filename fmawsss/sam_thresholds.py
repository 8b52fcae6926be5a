"""Which of the masks that SAM proposes for a point pass: predicted IoU and stability, with an offset per level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from segment_anything.utils.amg import (
    batched_mask_to_box,
    calculate_stability_score,
    is_box_near_crop_edge,
    uncrop_boxes_xyxy,
    uncrop_masks,
)
from torch import Tensor

from fmawsss.bitmasks import pack_masks
from fmawsss.sam_candidates import Candidates, join_candidates
from fmawsss.sam_points import Frame, PointPredictor

CHUNK_PIXELS = 1 << 26  # of logits enlarged at once: 256 MB
SAM_PIXELS = 1 << 20  # logits pass through SAM's input size on their way


@dataclass(frozen=True)
class LevelThresholds:
    """The thresholds of METHOD 1; one of 0 lets everything pass, as in SAM."""

    predicted_iou: float
    iou_offsets: Float32[Tensor, "3"]
    stability: float
    stability_margin: float  # a mask is stable when raising and lowering the mask threshold by this changes little
    stability_offsets: Float32[Tensor, "3"]

    def pass_iou(self, iou: Float32[Tensor, "Q 3"]) -> Bool[Tensor, "Q 3"]:
        """Judge the masks of Q points before they are drawn."""
        return iou + self.iou_offsets > (self.predicted_iou if self.predicted_iou > 0 else -torch.inf)

    def pass_stability(self, stability: Float32[Tensor, "M"], level: Int64[Tensor, "M"]) -> Bool[Tensor, "M"]:
        """Judge drawn masks; the stability of an empty mask is not a number and fails."""
        if self.stability <= 0:
            return torch.ones_like(level, dtype=torch.bool)
        return stability + self.stability_offsets[level] >= self.stability


@dataclass(frozen=True)
class Proposals:
    """M masks that SAM offers, before they are drawn."""

    level: Int64[Tensor, "M"]
    predicted_iou: Float32[Tensor, "M"]
    point: Float64[Tensor, "M 2"]  # x, y in the image

    def split(self, amount: int) -> list[Proposals]:
        """Cut into parts of at most `amount`."""
        parts = self.level.split(amount), self.predicted_iou.split(amount), self.point.split(amount)
        return [Proposals(*part) for part in zip(*parts, strict=True)]


def judge_points(
    predictor: PointPredictor, crop: Any, points: Float64[np.ndarray, "Q 2"], frame: Frame, thresholds: LevelThresholds
) -> Candidates:
    """Ask for the masks of some points (x, y in the crop); return those that pass."""
    answer = predictor.answer_points(crop, points)
    iou = answer.iou.float().cpu()
    passed = thresholds.pass_iou(iou)
    if not passed.any():
        return Candidates.empty(frame.size)
    owner, level = torch.where(passed)
    proposals = Proposals(level, iou[passed], torch.from_numpy(points)[owner] + torch.tensor(frame.box[:2]))

    # masks reach the size of the crop a few at a time
    amount = max(1, CHUNK_PIXELS // max(frame.pixels, SAM_PIXELS))
    drawn = predictor.draw_masks(answer, passed).split(amount)
    found = (
        judge_masks(predictor.enlarge_masks(crop, logits), part, predictor.mask_threshold, frame, thresholds)
        for logits, part in zip(drawn, proposals.split(amount), strict=True)
    )
    return join_candidates(found, frame.size)


def judge_masks(
    logits: Float[Tensor, "M H W"], of: Proposals, mask_threshold: float, frame: Frame, thresholds: LevelThresholds
) -> Candidates:
    """Keep stable masks, without those that end near an edge of the crop where the image goes on."""
    stability = calculate_stability_score(logits, mask_threshold, thresholds.stability_margin)
    stable = thresholds.pass_stability(stability.cpu(), of.level)
    masks = (logits > mask_threshold)[stable.to(logits.device)]
    corners = batched_mask_to_box(masks)
    whole = ~is_box_near_crop_edge(corners, list(frame.box), [0, 0, frame.size[1], frame.size[0]])
    kept = stable.nonzero()[whole.cpu(), 0]
    return Candidates(
        bits=pack_masks(uncrop_masks(masks[whole].cpu(), list(frame.box), *frame.size)),
        level=of.level[kept].byte(),
        box=uncrop_boxes_xyxy(corners[whole], list(frame.box)).long().cpu(),
        predicted_iou=of.predicted_iou[kept],
        stability=stability.cpu()[kept],
        point=of.point[kept],
        crop=torch.tensor([frame.box]).expand(len(kept), 4),
    )
