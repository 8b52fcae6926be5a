"""The record, its run lengths and the rock-sand-water filter, against slow and obvious versions."""

from __future__ import annotations

import multiprocessing
from itertools import pairwise

import numpy as np
import pytest
import torch
from golden_tools import load_case
from segment_anything.utils.amg import mask_to_rle_pytorch
from superpixel_tools import make_superpixels
from torch import Tensor

from fmawsss import superpixels as module
from fmawsss.sam.bitmasks import count_bits, count_overlaps, pack_masks, unpack_masks
from fmawsss.superpixels import (
    Superpixels,
    decode_masks,
    encode_masks,
    encode_packed,
    filter_rock_sand_water,
)


def draw_masks(amount: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Draw rectangles; the first four are noise, empty, full, and just the first pixel."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(amount, height, width, dtype=torch.bool)
    for mask in masks:
        top, left = (
            int(torch.randint(0, side, (), generator=generator)) for side in (height, width)
        )
        mask[top : top + height // 2 + 1, left : left + width // 3 + 1] = True
    special = [
        torch.rand(height, width, generator=generator) > 0.5,
        torch.zeros(height, width).bool(),
    ]
    special += [torch.ones(height, width).bool(), torch.zeros(height, width).bool()]
    masks[: min(4, amount)] = torch.stack(special)[:amount]
    masks[3:4, 0, 0] = True
    return masks


def make_record(masks: Tensor) -> Superpixels:
    """Wrap masks into a record with made-up scores."""
    counts, offsets = encode_masks(masks)
    amount = len(masks)
    boxes = torch.arange(4 * amount).view(amount, 4)
    return Superpixels(
        size=(masks.shape[1], masks.shape[2]),
        level=(torch.arange(amount) % 3).byte(),
        area=masks.sum((1, 2)),
        box=boxes,
        predicted_iou=torch.linspace(0, 1, amount),
        stability=torch.linspace(1, 0, amount),
        point=torch.rand(amount, 2).double(),
        crop=boxes + 1,
        counts=counts,
        offsets=offsets,
    )


def filter_slowly(masks: Tensor, levels: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for level in (2, 1, 0):
        judges = list(kept)
        for index in torch.where(levels == level)[0].tolist():
            inside = [
                int((masks[index] & masks[judge]).sum()) / int(masks[index].sum())
                for judge in judges
            ]
            kept += [index] if all(share < threshold for share in inside) else []
    return kept


@pytest.mark.parametrize(
    "shape", [(20, 13, 17), (5, 1, 9), (4, 8, 1), (1, 1, 1), (0, 6, 7), (2, 30, 40)]
)
def test_run_lengths_are_those_of_sam_and_decode_to_the_masks(shape: tuple[int, int, int]) -> None:
    masks = draw_masks(*shape)
    counts, offsets = encode_masks(masks)
    expected = [rle["counts"] for rle in mask_to_rle_pytorch(masks)] if shape[0] else []
    assert [counts[a:b].tolist() for a, b in pairwise(offsets.tolist())] == expected
    assert torch.equal(decode_masks(counts, offsets, shape[1:]), masks)


def test_a_known_mask_is_coded_column_by_column() -> None:
    mask = torch.tensor([[[0, 1, 1], [0, 0, 1]]], dtype=torch.bool)
    assert encode_masks(mask)[0].tolist() == [2, 1, 1, 2]
    assert encode_masks(~mask)[0].tolist() == [0, 2, 1, 1, 2]


def test_packed_masks_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = draw_masks(9, 11, 13)
    bits = pack_masks(masks)
    assert bits.shape == (9, 18)
    assert torch.equal(unpack_masks(bits, (11, 13)), masks)
    assert torch.equal(count_bits(bits), masks.sum((1, 2)))
    monkeypatch.setattr(module, "CHUNK_PIXELS", 2 * 11 * 13)
    for found, expected in zip(encode_packed(bits, (11, 13)), encode_masks(masks), strict=True):
        assert torch.equal(found, expected)


def test_overlaps_are_counted_in_chunks() -> None:
    masks = draw_masks(9, 11, 13)
    flat = masks.flatten(1).long()
    found = count_overlaps(pack_masks(masks), slice(2, None), slice(0, 5), chunk_bytes=4)
    assert torch.equal(found, flat[2:] @ flat[:5].T)


@pytest.mark.parametrize("name", ["rsw_n1", "rsw_n40", "rsw_no_level1", "rsw_only0"])
def test_the_filter_keeps_what_the_golden_vectors_keep(name: str) -> None:
    arrays, _ = load_case(f"case8_sam/{name}")
    masks, levels = torch.from_numpy(arrays.pop("masks")), torch.from_numpy(arrays.pop("levels"))
    for key, expected in arrays.items():
        threshold = float(key.split("_")[1].removeprefix("t"))
        assert filter_rock_sand_water(masks, levels, threshold).tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_the_filter_is_the_obvious_one(seed: int, threshold: float) -> None:
    masks = draw_masks(34, 24, 30, seed)[4:]
    levels = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(seed)).byte()
    assert filter_rock_sand_water(masks, levels, threshold).tolist() == filter_slowly(
        masks, levels, threshold
    )


def test_a_share_equal_to_the_threshold_does_not_enter() -> None:
    masks = torch.zeros(2, 1, 10, dtype=torch.bool)
    masks[0, 0, :3], masks[1] = True, True
    levels = torch.tensor([2, 0], dtype=torch.uint8)
    assert filter_rock_sand_water(masks, levels, 0.3).tolist() == [0]
    assert filter_rock_sand_water(masks, levels, 0.301).tolist() == [0, 1]


def test_masks_of_one_level_are_not_judged_against_each_other() -> None:
    masks = torch.ones(3, 4, 4, dtype=torch.bool)
    assert filter_rock_sand_water(masks, torch.zeros(3).byte(), 0.3).tolist() == [0, 1, 2]
    assert filter_rock_sand_water(masks, torch.tensor([1, 0, 1]).byte(), 0.3).tolist() == [0, 2]
    assert filter_rock_sand_water(masks[:0], torch.zeros(0).byte(), 0.3).tolist() == []


def test_runs_sum_a_map_without_decoding() -> None:
    masks = draw_masks(6, 9, 7)
    values = torch.rand(9, 7, dtype=torch.float64)
    owner, start, stop = make_record(masks).runs()
    total = torch.cat([torch.zeros(1), values.T.flatten().cumsum(0)])
    sums = torch.zeros(6, dtype=torch.float64).index_add_(0, owner, total[stop] - total[start])
    torch.testing.assert_close(sums, (masks * values).sum((1, 2)))


def test_an_empty_record_is_a_record() -> None:
    empty = Superpixels.empty((5, 7))
    assert len(empty) == 0
    assert empty.masks().shape == (0, 5, 7)
    assert [len(runs) for runs in empty.runs()] == [0, 0, 0]


def test_records_travel_as_arrays() -> None:
    masks = draw_masks(6, 9, 7)
    here, there = multiprocessing.Pipe()
    here.send(make_record(masks))
    record = there.recv()
    assert torch.equal(record.masks(), masks)
    assert record.size == (9, 7)
    assert not any(isinstance(part, Tensor) for part in record.__reduce__()[1])
    assert isinstance(record.__reduce__()[1][1], np.ndarray)


def test_a_record_checks_its_shapes() -> None:
    with pytest.raises(Exception, match="area"):
        Superpixels(**{**vars(Superpixels.empty((2, 2))), "area": torch.zeros(3).long()})


def test_one_mask_is_that_of_all() -> None:
    masks = draw_masks(3, 5, 7)
    superpixels = make_superpixels(masks, torch.zeros(3))
    for number, mask in enumerate(masks):
        assert torch.equal(superpixels.mask(number), mask)
