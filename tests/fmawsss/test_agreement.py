"""Agreement of seeds against hand numbers."""

from __future__ import annotations

import pytest
import torch

from fmawsss.agreement import measure_agreement


def mask(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


def test_agreement_averages_background_and_labels():
    one, other = mask([0, 0, 1, 1], [0, 0, 2, 2]), mask([0, 1, 1, 1], [0, 0, 0, 2])
    # background 3 of 5, class 0: 2 of 3, class 1: 1 of 2
    assert measure_agreement(one, other, torch.tensor([0, 1])) == pytest.approx(
        (3 / 5 + 2 / 3 + 1 / 2) / 3
    )


def test_a_labelled_class_in_neither_seed_counts_as_zero():
    same = mask([0, 1], [0, 1])
    assert measure_agreement(same, same, torch.tensor([0])) == 1
    assert measure_agreement(same, same, torch.tensor([0, 4])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [0, 1])
def test_seeds_of_one_label_do_not_agree_by_themselves(label):
    whole = mask([label, label])
    assert measure_agreement(whole, whole, torch.tensor([0])) == 0.5
