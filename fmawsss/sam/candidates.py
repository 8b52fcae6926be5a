"""Candidate masks of an image, and what SAM does to them: NMS, and cleaning of small regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8
from segment_anything.utils.amg import batched_mask_to_box, remove_small_regions
from torch import Tensor
from torchvision.ops import box_area, nms

from fmawsss.sam.bitmasks import count_bits, pack_masks, unpack_masks
from fmawsss.superpixels import Superpixels, encode_packed


@dataclass(frozen=True)
class Candidates:
    """M masks in the frame of the whole image; no offset is added to any value.

    The bits stay where the masks were drawn, all else lies on the CPU, which chooses among them.
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

    def cpu(self) -> Candidates:
        """Bring the bits to the CPU, too."""
        return replace(self, bits=self.bits.cpu())

    def __len__(self) -> int:
        return len(self.level)

    def select(self, index: Shaped[Tensor, "K"]) -> Candidates:
        """Take the masks that an index names, in its order."""
        chosen = {field.name: getattr(self, field.name)[index] for field in fields(self)[1:]}
        return Candidates(self.bits[index.to(self.bits.device, non_blocking=True)], **chosen)


def join_candidates(parts: Iterable[Candidates], size: tuple[int, int]) -> Candidates:
    """Append candidates of one image of `size` (height, width) to one another."""
    rows = [vars(part) for part in parts if len(part)] or [vars(Candidates.empty(size))]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Candidates(**{name: torch.cat(column) for name, column in columns.items()})


def suppress_duplicates(
    masks: Candidates, ranks: Float32[Tensor, "M"], iou_threshold: float
) -> Candidates:
    """Keep the masks of highest rank whose boxes overlap by at most `iou_threshold` (NMS)."""
    return masks.select(nms(masks.box.float(), ranks, iou_threshold))


def suppress_crop_duplicates(masks: Candidates, iou_threshold: float) -> Candidates:
    """Suppress duplicates between crops, preferring smaller crops."""
    return suppress_duplicates(masks, 1 / box_area(masks.crop), iou_threshold)


def clean_regions(
    masks: Candidates, size: tuple[int, int], min_area: int, iou_threshold: float
) -> Candidates:
    """Fill holes and remove islands smaller than `min_area`, then suppress new duplicates.

    Of two duplicates a mask that was not touched is kept.
    """
    bits, box = masks.bits.clone(), masks.box.clone()
    untouched = torch.ones(len(masks))

    # small regions
    for index in range(len(masks)):
        mask = unpack_masks(masks.bits[index : index + 1], size)[0].numpy()
        mask, filled = remove_small_regions(mask, min_area, mode="holes")
        mask, removed = remove_small_regions(mask, min_area, mode="islands")
        if filled or removed:
            cleaned = torch.from_numpy(np.ascontiguousarray(mask))[None]
            bits[index], box[index] = pack_masks(cleaned)[0], batched_mask_to_box(cleaned)[0]
            untouched[index] = 0

    # masks that have become alike
    return suppress_duplicates(replace(masks, bits=bits, box=box), untouched, iou_threshold)


def record_superpixels(masks: Candidates, size: tuple[int, int]) -> Superpixels:
    """Turn the chosen masks of an image of `size` (height, width) into its record."""
    if len(masks) == 0:
        return Superpixels.empty(size)
    counts, offsets = encode_packed(masks.bits, size)
    return Superpixels(
        size=size,
        level=masks.level,
        area=count_bits(masks.bits),
        box=_measure_boxes(masks.box),
        predicted_iou=masks.predicted_iou,
        stability=masks.stability,
        point=masks.point,
        crop=_measure_boxes(masks.crop),
        counts=counts,
        offsets=offsets,
    )


def _measure_boxes(corners: Int64[Tensor, "M 4"]) -> Int64[Tensor, "M 4"]:
    """Turn two corners into corner, width and height, as SAM counts them: last minus first."""
    return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
