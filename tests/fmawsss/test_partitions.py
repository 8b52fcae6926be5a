"""Records of partitions: coded from a small label image as from masks at full size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box
from skimage.segmentation import slic

from fmawsss.sam.classic import ClassicSuperpixels, cut_by_colour
from fmawsss.sam.partitions import record_partition
from fmawsss.superpixels import encode_masks

SIZES = [((5, 7), (5, 7)), ((5, 7), (13, 16)), ((1, 1), (4, 3)), ((6, 4), (6, 9)), ((3, 3), (3, 3))]


@pytest.mark.parametrize(("small", "large"), SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_a_partition_is_coded_as_its_masks_are(
    small: tuple[int, int], large: tuple[int, int], seed: int
) -> None:
    labels = np.random.default_rng(seed).choice([0, 3, 4, 9], small)
    rows = np.arange(large[0]) * small[0] // large[0]
    columns = np.arange(large[1]) * small[1] // large[1]
    enlarged = labels[rows][:, columns]
    masks = torch.from_numpy(np.stack([enlarged == value for value in np.unique(labels)]))
    counts, offsets = encode_masks(masks)
    corners = batched_mask_to_box(masks)

    found = record_partition(labels, large)
    assert torch.equal(found.counts, counts)
    assert torch.equal(found.offsets, offsets)
    assert torch.equal(found.area, masks.sum((1, 2)))
    assert torch.equal(found.box[:, :2], corners[:, :2])
    assert torch.equal(found.box[:, 2:], corners[:, 2:] - corners[:, :2])
    assert found.size == large


def test_large_images_are_cut_at_their_working_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    seen: list[Any] = []

    def segment(shown: np.ndarray) -> np.ndarray:
        seen.append(shown.shape)
        return slic(shown, n_segments=9)

    found = ClassicSuperpixels(segment, longest=45).generate_batch([image])[0]
    assert seen == [(30, 45, 3)]
    assert found.size == (60, 90)
    assert torch.equal(found.masks().sum(0), torch.ones(60, 90, dtype=torch.int64))
    assert found.masks()[:, ::2, ::2].equal(found.masks()[:, 1::2, 1::2])


@pytest.mark.parametrize("side", [40, 160])
def test_regions_follow_the_image_up_to_a_limit(side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    image = noise.repeat(side // 10, 0).repeat(side // 10, 1)
    assert len(np.unique(cut_by_colour(image, 1e-4, 0.1, regions=200))) == 100
    assert len(np.unique(cut_by_colour(image, 1e-4, 0.1, regions=30))) <= 30
