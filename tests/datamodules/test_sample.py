from __future__ import annotations

import doctest

import pytest
import torch

import datamodules.sample as sample_file
from datamodules.sample import Sample, collate_samples


def make_sample(name: str, size: tuple[int, int], **more: object) -> Sample:
    return Sample(name, torch.ones(3, *size), size, **more)


def test_smaller_images_are_padded_right_and_below() -> None:
    seeds = [torch.zeros(4, 6, dtype=torch.uint8), torch.zeros(8, 5, dtype=torch.uint8)]
    batch = collate_samples(
        [make_sample("a", (4, 6), seed=seeds[0]), make_sample("b", (8, 5), seed=seeds[1])]
    )
    assert batch.images.shape == (2, 3, 8, 6)
    assert batch.padding[0, :4].sum() == 0
    assert batch.padding[0, 4:].all()
    assert batch.padding[1, :, 5].all()
    assert (batch.images.mean(1) == (~batch.padding).float()).all()
    assert (batch.seeds == batch.padding * 255).all()


def test_equal_sizes_need_no_padding() -> None:
    batch = collate_samples([make_sample("a", (4, 4)), make_sample("b", (4, 4))])
    assert batch.padding is None
    assert (batch.labels, batch.seeds, batch.truths, batch.superpixels, batch.originals) == (
        None,
    ) * 5
    assert len(batch) == 2


def test_a_truth_may_be_missing_but_nothing_else() -> None:
    truth = torch.zeros(9, 9, dtype=torch.uint8)
    assert collate_samples(
        [make_sample("a", (4, 4), truth=truth), make_sample("b", (4, 4))]
    ).truths == [truth, None]
    with pytest.raises(ValueError, match="mixes samples"):
        collate_samples(
            [make_sample("a", (4, 4), labels=torch.ones(2).bool()), make_sample("b", (4, 4))]
        )


def test_to_returns_another_batch_and_moves_all_but_truths() -> None:
    labels, truth = torch.ones(2).bool(), torch.zeros(3, 3, dtype=torch.uint8)
    batch = collate_samples([make_sample("a", (4, 4), labels=labels, truth=truth)])
    moved = batch.to("meta")
    assert moved.images.is_meta
    assert moved.labels.is_meta
    assert moved.truths[0] is truth  # masks are scored on the CPU
    assert batch.images.device.type == "cpu"


def test_examples_run() -> None:
    assert doctest.testmod(sample_file).failed == 0
