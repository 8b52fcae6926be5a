"""Candidate masks of one image, and what SAM does to a set of them: suppress doubles (NMS), clean
small regions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8
from segment_anything.utils.amg import batched_mask_to_box, remove_small_regions
from torch import Tensor
from torchvision.ops import box_area, nms

from fmawsss.sam.bitmasks import pack_masks, unpack_masks


@dataclass(frozen=True)
class Candidates:
    """M masks in the frame of the whole image, on one device; `predicted_iou` and `stability` are
    without offsets.
    """

    bits: UInt8[Tensor, "M Z"]  # packed by `pack_masks`
    level: UInt8[Tensor, "M"]
    box: Int64[Tensor, "M 4"]  # x, y of the first and of the last pixel
    predicted_iou: Float32[Tensor, "M"]
    stability: Float32[Tensor, "M"]
    point: Float64[Tensor, "M 2"]
    crop: Int64[Tensor, "M 4"]  # x, y of the first pixel and of the one after the last

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Candidates:
        """Make no candidates for an image of `size` (height, width)."""
        none, boxes = torch.zeros(0), torch.zeros(0, 4).long()
        bits = pack_masks(torch.zeros(0, *size, dtype=torch.bool))
        return cls(bits, none.byte(), boxes, none, none, torch.zeros(0, 2).double(), boxes)

    def to(self, device: torch.device | str) -> Candidates:
        """Move to a device."""
        return Candidates(*(getattr(self, field.name).to(device) for field in fields(self)))

    def __len__(self) -> int:
        return len(self.level)

    def select(self, index: Shaped[Tensor, "K"]) -> Candidates:
        """Take the masks that an index or a Boolean mask names, in its order."""
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))


def join_candidates(parts: Iterable[Candidates], size: tuple[int, int]) -> Candidates:
    """Append candidates of one image of `size` (height, width) to one another."""
    parts = list(parts) or [Candidates.empty(size)]
    return Candidates(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Candidates))
    )


def suppress_doubles(
    masks: Candidates, scores: Float32[Tensor, "M"], iou_threshold: float
) -> Candidates:
    """Keep the best-scored masks whose boxes overlap by at most `iou_threshold`, best first."""
    return masks.select(nms(masks.box.float(), scores, iou_threshold))


def suppress_crop_doubles(masks: Candidates, iou_threshold: float) -> Candidates:
    """Suppress doubles between crops, preferring smaller crops."""
    return suppress_doubles(masks, 1 / box_area(masks.crop), iou_threshold)


def clean_regions(
    masks: Candidates, size: tuple[int, int], min_area: int, iou_threshold: float
) -> Candidates:
    """Fill holes and remove islands smaller than `min_area`, then suppress new doubles, preferring
    untouched masks.
    """
    bits, box, untouched = masks.bits.clone(), masks.box.clone(), torch.ones(len(masks))
    for index in range(len(masks)):
        mask = unpack_masks(masks.bits[index : index + 1], size)[0].numpy()
        mask, filled = remove_small_regions(mask, min_area, mode="holes")
        mask, removed = remove_small_regions(mask, min_area, mode="islands")
        if filled or removed:
            cleaned = torch.from_numpy(np.ascontiguousarray(mask))[None]
            bits[index], box[index] = pack_masks(cleaned)[0], batched_mask_to_box(cleaned)[0]
            untouched[index] = 0
    return suppress_doubles(replace(masks, bits=bits, box=box), untouched, iou_threshold)
