"""Which masks of a point pass: predicted IoU and stability, with an offset per level (METHOD 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, UInt8
from segment_anything.utils.amg import is_box_near_crop_edge, uncrop_boxes_xyxy, uncrop_masks
from torch import Tensor

from fmawsss.sam.bitmasks import pack_masks
from fmawsss.sam.candidates import Candidates
from fmawsss.sam.points import Frame, PointPredictor, answer_crops
from fmawsss.transfer import fetch


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
    """M masks that SAM offers, before they are drawn; on the CPU."""

    level: Int64[Tensor, "M"]
    predicted_iou: Float32[Tensor, "M"]
    point: Float64[Tensor, "M 2"]  # x, y in the image

    def select(self, index: Int64[Tensor, "K"]) -> Proposals:
        """Take some of them."""
        return Proposals(self.level[index], self.predicted_iou[index], self.point[index])


@dataclass(frozen=True)
class Drawn:
    """M masks of a crop where they were drawn, packed, and what says whether they pass."""

    bits: UInt8[Tensor, "M Z"]  # in the frame of the image
    stability: Float32[Tensor, "M"]
    corners: Int64[Tensor, "M 4"]  # x, y of the first and of the last pixel, in the crop
    of: Proposals
    frame: Frame


def draw_crops(
    predictor: PointPredictor,
    crops: Sequence[Any],
    points: Float64[np.ndarray, "G Q 2"],
    frames: Sequence[Frame],
    thresholds: LevelThresholds,
    chunk_numbers: int,
) -> list[list[Drawn]]:
    """Ask for the masks of some points (x, y) of each crop; draw those that can pass, in parts.

    The device is read once, for the predicted IoU of all points.
    """
    answers = answer_crops(predictor, crops, points)
    ious = fetch([answer.iou.float() for answer in answers])
    asked = zip(crops, answers, ious, points, frames, strict=True)
    return [draw_points(predictor, *crop, thresholds, chunk_numbers) for crop in asked]


def draw_points(
    predictor: PointPredictor,
    crop: Any,
    answer: Any,
    iou: Float32[Tensor, "Q 3"],
    points: Float64[np.ndarray, "Q 2"],
    frame: Frame,
    thresholds: LevelThresholds,
    chunk_numbers: int,
) -> list[Drawn]:
    """Draw the masks of some points of a crop whose predicted IoU passes, in parts."""
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
        found.append(pack_drawn(logits, proposals, predictor.mask_threshold, frame, thresholds))
    return found


def pack_drawn(
    logits: Float[Tensor, "M H W"],
    of: Proposals,
    mask_threshold: float,
    frame: Frame,
    thresholds: LevelThresholds,
) -> Drawn:
    """Pack masks, and measure what `judge_masks` reads.

    On the CPU, where nobody is waited for, masks that fail are left out at once.
    """
    # stability
    high, low = (
        count_above(logits, mask_threshold + sign * thresholds.stability_margin) for sign in (1, -1)
    )
    stability, read = high / low, logits.device.type == "cpu"
    if read:
        kept = thresholds.pass_stability(stability, of.level).nonzero()[:, 0]
        logits, stability, of = logits[kept], stability[kept], of.select(kept)

    # boxes
    corners = find_corners(logits, mask_threshold)
    if read:
        kept = find_whole(corners, frame)
        logits, stability, of = logits[kept], stability[kept], of.select(kept)
        corners = corners[kept]

    # in the frame of the image
    masks = uncrop_masks(logits > mask_threshold, list(frame.box), *frame.size)
    return Drawn(pack_masks(masks), stability, corners, of, frame)


def judge_masks(drawn: Sequence[Drawn], thresholds: LevelThresholds) -> list[Candidates]:
    """Keep what passes of each part; the device is read once, for all of them."""
    read = iter(fetch([values for one in drawn for values in (one.stability, one.corners)]))
    return [keep_passing(one, next(read), next(read), thresholds) for one in drawn]


def keep_passing(
    drawn: Drawn,
    stability: Float32[Tensor, "M"],
    corners: Int64[Tensor, "M 4"],
    thresholds: LevelThresholds,
) -> Candidates:
    """Keep stable masks, but for those near an edge of the crop beyond which the image goes on."""
    of, frame, bits = drawn.of, drawn.frame, drawn.bits
    stable = thresholds.pass_stability(stability, of.level).nonzero()[:, 0]
    kept = stable[find_whole(corners[stable], frame)]
    return Candidates(
        bits=bits[kept.to(bits.device, non_blocking=True)],
        level=of.level[kept].byte(),
        box=uncrop_boxes_xyxy(corners[kept], list(frame.box)),
        predicted_iou=of.predicted_iou[kept],
        stability=stability[kept],
        point=of.point[kept],
        crop=torch.tensor([frame.box]).expand(len(kept), 4),
    )


def find_whole(corners: Int64[Tensor, "M 4"], frame: Frame) -> Int64[Tensor, "K"]:
    """Find the masks that end within the crop, or where the image ends."""
    image = [0, 0, frame.size[1], frame.size[0]]
    return (~is_box_near_crop_edge(corners, list(frame.box), image)).nonzero()[:, 0]


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
