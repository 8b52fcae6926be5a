"""Records of partitions: coded from a small label image as from masks at full size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box
from skimage.segmentation import slic

from fmawsss.sam.classic import ClassicSuperpixels, cut_by_colour
from fmawsss.sam.partitions import record_partition, resize_superpixels
from fmawsss.superpixels import Superpixels, encode_masks

SIZES = [(5, 7), (13, 16), (6, 9), (1, 1), (3, 30), (2, 2)]


def check_masks(found: Superpixels, masks: torch.Tensor) -> None:
    """Compare a record with the masks that it should hold."""
    counts, offsets = encode_masks(masks)
    corners = batched_mask_to_box(masks)
    assert torch.equal(found.counts, counts)
    assert torch.equal(found.offsets, offsets)
    assert torch.equal(found.area, masks.sum((1, 2)))
    assert torch.equal(found.box[:, :2], corners[:, :2])
    assert torch.equal(found.box[:, 2:], corners[:, 2:] - corners[:, :2])
    assert found.size == tuple(masks.shape[1:])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_a_partition_is_coded_as_its_masks_are(size: tuple[int, int], seed: int) -> None:
    labels = np.random.default_rng(seed).choice([0, 3, 4, 9], size)
    masks = torch.from_numpy(np.stack([labels == value for value in np.unique(labels)]))
    check_masks(record_partition(labels), masks)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_superpixels_are_resized_to_the_nearest_pixels(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = torch.from_numpy(
        rng.random((6, 6, 8)) > np.array([0.95, 0.8, 0.5, 0.2, 0, 0.9])[:, None, None]
    )
    masks[0, 0, 0] = True
    counts, offsets = encode_masks(masks)
    amount, none = len(masks), torch.zeros(len(masks))
    boxes, points = torch.zeros(amount, 4).long(), torch.ones(amount, 2).double()
    whole = Superpixels(
        (6, 8), torch.arange(amount).byte(), masks.sum((1, 2)), boxes, none, none, points, boxes,
        counts, offsets,
    )  # fmt: skip
    rows = torch.tensor([(2 * row + 1) * 6 // (2 * size[0]) for row in range(size[0])])
    columns = torch.tensor([(2 * column + 1) * 8 // (2 * size[1]) for column in range(size[1])])
    seen = masks[:, rows][:, :, columns]
    left = seen.any(2).any(1)

    found = resize_superpixels(whole, size)
    check_masks(found, seen[left])
    assert found.level.tolist() == left.nonzero().flatten().tolist()
    assert torch.allclose(found.point[:, 0], torch.tensor(size[1] / 8).double())
    assert resize_superpixels(whole, (6, 8)) is whole


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
