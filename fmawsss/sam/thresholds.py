"""Which masks of a point pass: predicted IoU and stability, with an offset per level (METHOD 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from segment_anything.utils.amg import is_box_near_crop_edge, uncrop_boxes_xyxy, uncrop_masks
from torch import Tensor

from fmawsss.sam.bitmasks import pack_masks
from fmawsss.sam.candidates import Candidates
from fmawsss.sam.points import Frame, PointPredictor


@dataclass(frozen=True)
class LevelThresholds:
    """The thresholds of METHOD 1; one of 0 lets everything pass, as in SAM."""

    predicted_iou: float
    iou_offsets: Float32[Tensor, "3"]
    stability: float
    # a mask is stable when raising and lowering the mask threshold by this changes little
    stability_margin: float
    stability_offsets: Float32[Tensor, "3"]

    def pass_iou(self, iou: Float32[Tensor, "Q 3"]) -> Bool[Tensor, "Q 3"]:
        """Judge the masks of Q points before they are drawn."""
        return iou + self.iou_offsets > (
            self.predicted_iou if self.predicted_iou > 0 else -torch.inf
        )

    def pass_stability(
        self, stability: Float32[Tensor, "M"], level: Int64[Tensor, "M"]
    ) -> Bool[Tensor, "M"]:
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


def judge_points(
    predictor: PointPredictor,
    crop: Any,
    points: Float64[np.ndarray, "Q 2"],
    frame: Frame,
    thresholds: LevelThresholds,
    chunk_numbers: int,
) -> list[Candidates]:
    """Ask for the masks of some points (x, y in the crop); return those that pass, in parts."""
    answer = predictor.answer_points(crop, points)
    iou = answer.iou.float().cpu()
    passed = thresholds.pass_iou(iou)
    places = torch.from_numpy(points) + torch.tensor(frame.box[:2])

    # only points with a mask that can pass are drawn, a few at a time
    amount = max(1, chunk_numbers // max(predictor.point_numbers, passed.shape[1] * frame.pixels))
    found = []
    for some in passed.any(1).nonzero()[:, 0].split(amount):
        wanted = torch.zeros_like(passed)
        wanted[some] = passed[some]
        owner, level = torch.where(wanted)
        proposals = Proposals(level, iou[wanted], places[owner])
        logits = predictor.enlarge_masks(crop, predictor.draw_masks(crop, answer, wanted))
        found.append(judge_masks(logits, proposals, predictor.mask_threshold, frame, thresholds))
    return found


def judge_masks(
    logits: Float[Tensor, "M H W"],
    of: Proposals,
    mask_threshold: float,
    frame: Frame,
    thresholds: LevelThresholds,
) -> Candidates:
    """Keep stable masks, but for those near an edge of the crop beyond which the image goes on."""
    # stability
    high, low = (
        count_above(logits, mask_threshold + sign * thresholds.stability_margin) for sign in (1, -1)
    )
    stability = high / low
    stable = thresholds.pass_stability(stability.cpu(), of.level).nonzero()[:, 0]

    # boxes that end within the crop, or where the image ends
    logits = logits[stable.to(logits.device)]
    corners = find_corners(logits, mask_threshold)
    whole = ~is_box_near_crop_edge(corners, list(frame.box), [0, 0, frame.size[1], frame.size[0]])

    # in the frame of the image; a Boolean index would wait for the device once more, each time
    inside = whole.cpu().nonzero()[:, 0]
    kept, device = stable[inside], logits.device
    inside = inside.to(device)
    masks = uncrop_masks(logits[inside] > mask_threshold, list(frame.box), *frame.size)
    return Candidates(
        bits=pack_masks(masks),
        level=of.level[kept].byte().to(device),
        box=uncrop_boxes_xyxy(corners[inside], list(frame.box)),
        predicted_iou=of.predicted_iou[kept].to(device),
        stability=stability[kept.to(device)],
        point=of.point[kept].to(device),
        crop=torch.tensor([frame.box], device=device).expand(len(kept), 4),
    )


def count_above(logits: Float[Tensor, "M H W"], threshold: float) -> Int32[Tensor, "M"]:
    """Count the pixels above a threshold; exact, as no row holds 2**24 of them."""
    above = torch.gt(logits, threshold, out=torch.empty_like(logits, dtype=torch.float32))
    return above.sum(2).int().sum(1, dtype=torch.int32)


def find_corners(logits: Float[Tensor, "M H W"], threshold: float) -> Int64[Tensor, "M 4"]:
    """Find x, y of the first and of the last pixel of each mask; zeros for an empty one."""
    ends = []
    for axis in (1, 2):
        inside = (logits.amax(axis) > threshold).byte()
        last = inside.shape[1] - 1 - inside.flip(1).argmax(1)
        ends.append((inside.argmax(1), last * inside.amax(1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1)
