"""Logits and the softmaxes over present classes, by hand."""

from __future__ import annotations

import torch

from fmawsss.cam import (
    compute_logits,
    softmax_over_all,
    softmax_over_positives,
    softmax_over_present,
    softmax_over_present_released,
)


def test_logits_are_scaled_cosines():
    features = torch.tensor([[3.0, 4.0]])
    texts = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [0.0, 2.0]])
    torch.testing.assert_close(
        compute_logits(features, texts, torch.tensor(10.0)), torch.tensor([[10.0, 0.0, 8.0]])
    )


def test_softmax_by_hand():
    logits, labels = (
        torch.tensor([[1.0, 12.0, 1.0, 1.0]]).log(),
        torch.tensor([[True, False, True]]),
    )
    torch.testing.assert_close(
        softmax_over_present(logits, labels), torch.tensor([[1, 0, 1, 1]]) / 3
    )
    torch.testing.assert_close(
        softmax_over_all(logits, labels), torch.tensor([[1.0, 12.0, 1.0, 1.0]]) / 15
    )
    torch.testing.assert_close(
        softmax_over_positives(logits, labels), torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    )
    single, none = torch.tensor([[False, True, False]]), torch.zeros(1, 3, dtype=torch.bool)
    torch.testing.assert_close(softmax_over_positives(logits, single), logits)
    assert not softmax_over_positives(logits, none).any()
    torch.testing.assert_close(
        softmax_over_present(logits, none), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    )


def test_an_absent_class_that_leads_only_disturbs_the_released_softmax():
    logits, labels = torch.tensor([[14.0, 25.0, 0.0]]), torch.tensor([[True, False]])
    assert softmax_over_present(logits, labels)[0, 0] > 0.999
    leading = torch.tensor([[14.0, 29.0, 0.0]])
    assert softmax_over_present_released(leading, labels)[0, 0] < 0.04
    far = torch.tensor([[-100.0, 100.0, -101.0]])
    torch.testing.assert_close(
        softmax_over_present(far, labels), torch.tensor([[0.7310586, 0.0, 0.2689414]])
    )
