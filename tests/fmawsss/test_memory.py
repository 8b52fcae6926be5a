"""Region memory: keys, values, label-filtered neighbours, final scores (METHOD 11.1)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from superpixel_tools import make_superpixels

from fmawsss.memory import (
    MemoryReader,
    build_memory,
    join_keys,
    make_values,
    measure_shares,
    pool_keys,
)

CAT, DOG, CAR = torch.eye(3).bool()


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows).float(), dim=1)


def cut(masks: np.ndarray):
    return make_superpixels(torch.from_numpy(masks), torch.zeros(len(masks)))


def small_memory():
    """Four images: a cat, another cat, cat and dog, a car."""
    keys = [unit((1, 0), (0, 1)), unit((1, 0.1)), unit((1, 1), (0, 1)), unit((1, 0))]
    values = [
        torch.tensor([[0.2, 0.8, 0, 0], [0.9, 0.1, 0, 0]]),
        torch.tensor([[0.4, 0.6, 0, 0]]),
        torch.tensor([[0.1, 0.3, 0.6, 0], [0.5, 0.25, 0.25, 0]]),
        torch.tensor([[0.0, 0, 0, 1]]),
    ]
    return build_memory(keys, values, [CAT, CAT, CAT | DOG, CAR])


def test_only_images_that_share_a_label_are_asked_and_never_the_own_one():
    memory = small_memory()
    assert memory.select_sharing(CAT, without=0).nonzero().flatten().tolist() == [2, 3, 4]
    assert memory.select_sharing(CAT, without=None).tolist() == [True] * 5 + [False]
    assert memory.select_sharing(DOG, without=None).nonzero().flatten().tolist() == [3, 4]
    assert not memory.select_sharing(CAR, without=3).any()


def test_scores_are_what_the_formula_says():
    memory, reader = small_memory(), MemoryReader(neighbours=2, temperature=5.0, own_share=0.2)
    own = torch.tensor([[0.2, 0.8, 0, 0]])
    scores, found = reader.explain(unit((1, 0)), own, CAT, memory, image=0)

    # the two nearest of rows 2, 3, 4, by hand
    cosines = [1 / 1.01**0.5, 0.5**0.5]
    assert found.rows.tolist() == [[2, 3]]
    torch.testing.assert_close(found.cosines, torch.tensor([cosines]))
    weights = torch.tensor(cosines).mul(5).exp()
    weights /= weights.sum()
    told = weights[0] * torch.tensor([0.4, 0.6]) + weights[1] * torch.tensor([0.1, 0.3])
    told /= told.sum()
    expected = 0.8 * told + 0.2 * torch.tensor([0.2, 0.8])
    torch.testing.assert_close(scores, torch.tensor([[*expected.tolist(), 0, 0]]))


def test_a_class_that_no_other_image_shows_keeps_the_values_of_its_image():
    memory, own = small_memory(), torch.tensor([[0.2, 0.3, 0.5, 0]])
    scores, found = MemoryReader().explain(unit((1, 1)), own, CAT | DOG, memory, image=2)
    assert torch.equal(scores, own)
    assert found.rows.numel() == 0


def test_few_images_that_show_a_class_are_no_memory():
    memory = small_memory()  # three show a cat, one of them a dog, too
    assert [memory.knows(CAT, 0, least) for least in (1, 2, 3)] == [True, True, False]
    assert [memory.knows(CAT, None, least) for least in (3, 4)] == [True, False]
    own = torch.tensor([[0.2, 0.8, 0, 0]])
    few, _ = MemoryReader(least=3).explain(unit((1, 0)), own, CAT, memory, 0)
    enough, _ = MemoryReader(least=2).explain(unit((1, 0)), own, CAT, memory, 0)
    assert torch.equal(few, own)
    assert not torch.equal(enough, own)


def test_without_neighbours_a_superpixel_keeps_its_value():
    memory, own = small_memory(), torch.tensor([[0.0, 0, 0, 1]])
    scores, found = MemoryReader().explain(unit((1, 0)), own, CAR, memory, image=3)
    assert torch.equal(scores, own)
    assert found.rows.shape == (1, 0)


def test_neighbours_that_know_none_of_the_classes_change_nothing():
    strange = build_memory([unit((1, 0))], [torch.tensor([[0.0, 0, 1, 0]])], [CAT | DOG])
    own = torch.tensor([[0.3, 0.7, 0, 0]])
    scores, _ = MemoryReader().explain(unit((1, 0)), own, CAT, strange)
    assert torch.equal(scores, own)


def test_shares_are_those_of_the_pixels_in_each_cell():
    masks = np.zeros((2, 5, 7), dtype=bool)
    masks[0, :2, :3], masks[1, 1:, 4:] = True, True
    shares = measure_shares((2, 3), cut(masks))
    row = (np.arange(5) + 0.5) * 2 / 5
    column = (np.arange(7) + 0.5) * 3 / 7
    cell = row.astype(int)[:, None] * 3 + column.astype(int)
    expected = [[mask[cell == n].mean() for n in range(6)] for mask in masks]
    torch.testing.assert_close(shares, torch.tensor(expected).float())


def test_keys_are_directions_of_weighted_means():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, :, :2], masks[1, :2, 1:] = True, True
    patches = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 2]])
    keys = pool_keys(patches, (2, 2), cut(masks))
    expected = [patches[0] + patches[2], 0.5 * patches[0] + patches[1]]
    torch.testing.assert_close(keys, F.normalize(torch.stack(expected), dim=1))


def test_joined_keys_compare_by_the_mean_of_cosines():
    a, b = unit((1, 0), (1, 1)), unit((0, 1, 0), (1, 2, 2))
    joined = join_keys(a, b)
    torch.testing.assert_close(joined @ joined.T, (a @ a.T + b @ b.T) / 2)


def test_values_stand_at_their_classes():
    scores = torch.tensor([[0.2, 0.0], [0.6, 0.0], [0.2, 0.5]])
    values = make_values(scores, torch.tensor([2, 0]), classes=3)
    torch.testing.assert_close(values, torch.tensor([[0.2, 0.2, 0, 0.6], [0, 1, 0, 0]]))
