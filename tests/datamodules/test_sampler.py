from __future__ import annotations

from itertools import islice

import pytest

from datamodules.sampler import BatchPlan, EndlessMicroBatches, find_image, seed_augmentation


def list_seen(plan: BatchPlan, first_step: int, micro_batches: int) -> list[int]:
    numbers = islice(EndlessMicroBatches(first_step, plan.micro_batches), micro_batches)
    return [position for number in numbers for position in plan.list_positions(number)]


def test_every_epoch_shows_each_image_once_in_another_order() -> None:
    epochs = [
        [find_image(position, 7, seed=3) for position in range(7 * e, 7 * e + 7)] for e in range(3)
    ]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_the_seed() -> None:
    orders = [[find_image(position, 50, seed) for position in range(50)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_positions_run_through_without_gap(micro_batches: int) -> None:
    plan = BatchPlan(batch_size=8, micro_batches=micro_batches, rank=0, world_size=1)
    assert list_seen(plan, 0, 3 * micro_batches) == list(range(24))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_resumed_run_goes_on_where_it_stopped(micro_batches: int) -> None:
    plan = BatchPlan(batch_size=8, micro_batches=micro_batches, rank=0, world_size=1)
    unbroken = list_seen(plan, 0, 5 * micro_batches)
    assert list_seen(plan, 0, 2 * micro_batches) + list_seen(plan, 2, 3 * micro_batches) == unbroken


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_see_together_what_one_sees(micro_batches: int) -> None:
    alone = BatchPlan(batch_size=8, micro_batches=micro_batches, rank=0, world_size=1)
    shares = [
        BatchPlan(batch_size=8, micro_batches=micro_batches, rank=r, world_size=2) for r in (0, 1)
    ]
    for number in range(6):
        together = [position for share in shares for position in share.list_positions(number)]
        assert together == list(alone.list_positions(number))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 6"):
        BatchPlan(batch_size=16, micro_batches=3, rank=0, world_size=2)


def test_the_micro_batches_have_no_length() -> None:
    with pytest.raises(TypeError):
        len(EndlessMicroBatches(0, 1))


def test_augmentation_is_seeded_by_position() -> None:
    draws = [seed_augmentation(position, 0).random() for position in (5, 5, 6)]
    assert draws[0] == draws[1] != draws[2]
