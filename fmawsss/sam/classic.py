"""Superpixels without a network, for people without a GPU: regions of a classic segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from segment_anything.utils.amg import batched_mask_to_box

from fmawsss.superpixels import Superpixels, encode_masks

WHOLE = 2  # the level of masks that can stand for objects


class ClassicSuperpixels:
    """Cut images with `segment` of `skimage.segmentation`, which labels every pixel.

    All regions are wholes.
    """

    def __init__(self, segment: Callable[..., Integer[np.ndarray, "H W"]]) -> None:
        self.segment = segment

    def generate_batch(self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> list[Superpixels]:
        """Cut RGB images."""
        return [record_regions(self.segment(image)) for image in images]


def record_regions(labels: Integer[np.ndarray, "H W"]) -> Superpixels:
    """Turn a partition into a record: level 2, predicted IoU and stability 1, no point (NaN)."""
    # one mask for each region
    _, regions = np.unique(labels, return_inverse=True)
    partition = torch.from_numpy(regions.reshape(labels.shape))
    amount, (height, width) = int(partition.max()) + 1, labels.shape
    masks = partition == torch.arange(amount)[:, None, None]

    # what a record tells of it
    corners, ones = batched_mask_to_box(masks), torch.ones(amount)
    counts, offsets = encode_masks(masks)
    return Superpixels(
        size=(height, width),
        level=torch.full((amount,), WHOLE, dtype=torch.uint8),
        area=masks.sum((1, 2)),
        box=torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1),
        predicted_iou=ones,
        stability=ones,
        point=torch.full((amount, 2), torch.nan, dtype=torch.float64),
        crop=torch.tensor([[0, 0, width, height]]).expand(amount, 4).contiguous(),
        counts=counts,
        offsets=offsets,
    )
