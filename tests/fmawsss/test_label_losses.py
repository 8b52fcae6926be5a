from __future__ import annotations

import pytest
import torch
from golden_clip import DTYPES
from golden_tools import assert_close, load_case

from fmawsss.label_losses import (
    SharpnessLoss,
    SuLoss,
    ThresholdedSuLoss,
    mean_of_ratios,
    multi_label_soft_margin,
    ratio_of_sums,
    squared_variation,
    su_losses,
    thresholded_su_losses,
    variance_by_mean,
    variation,
)

SUFFIXES = {torch.float32: "", torch.float64: "_f64"}
MEASURES = {"sharpness": variance_by_mean, "CV": variation, "CV^2": squared_variation}
AVERAGES = {"mean": mean_of_ratios, "batch_mean": ratio_of_sums}
REDUCTIONS = {"mean": torch.mean, "sum": torch.sum}


def read_case(case, dtype):
    arrays, _ = load_case(f"case4_loss/{case}")
    return (
        arrays,
        torch.from_numpy(arrays["S"]).to(dtype).requires_grad_(),
        torch.from_numpy(arrays["cls_lb"]) == 1,
    )


def check_case(case, key, arrays, logits, loss):
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert_close(
        loss, arrays[f"loss_{key}{SUFFIXES[logits.dtype]}"], f"case4_loss/{case}:loss_{key}"
    )
    assert_close(gradient, arrays[f"grad_{key}_f64"], f"case4_loss/{case}:grad_{key}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["su_basic", "su_novalid"])
def test_su_matches_golden_vectors(case, dtype):
    arrays, logits, labels = read_case(case, dtype)
    check_case(case, "thNone_lrNone_none", arrays, logits, su_losses(logits, labels))
    threshold = torch.tensor(0.5, dtype=dtype)
    check_case(
        case, "th0.5_lrNone_none", arrays, logits, thresholded_su_losses(logits, labels, threshold)
    )
    for name, reduce in REDUCTIONS.items():
        check_case(case, f"thNone_lrNone_{name}", arrays, logits, SuLoss(reduce)(logits, labels))
        learned = ThresholdedSuLoss(reduce, 0.5, learned=True).to(dtype)
        loss = learned(logits, labels)
        (gradient,) = torch.autograd.grad(loss, learned.threshold, retain_graph=True)
        assert_close(
            gradient.float(),
            arrays[f"gradthresh_th0.5_lr0.1_{name}_f64"],
            "gradient by the threshold",
        )
        check_case(case, f"th0.5_lr0.1_{name}", arrays, logits, loss)
        zlpr = ThresholdedSuLoss(reduce, 0.0, learned=False).to(dtype)(logits, labels)
        assert_close(zlpr, arrays[f"official_loss_{name}_f64"], "ZLPR")


def test_fixed_thresholds_are_not_learned():
    assert not ThresholdedSuLoss(torch.mean, 0.5, learned=False).threshold.requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["sharp_basic", "sharp_ignore255", "sharp_novalid"])
def test_sharpness_matches_golden_vectors(case, dtype):
    for measure in MEASURES:
        for average in AVERAGES:
            for correction in (0, 1):
                arrays, logits, labels = read_case(case, dtype)
                loss = SharpnessLoss(MEASURES[measure], AVERAGES[average], correction)(
                    logits, labels
                )
                check_case(case, f"{measure}_{average}_c{correction}", arrays, logits, loss)


@pytest.mark.parametrize("measure", MEASURES.values())
@pytest.mark.parametrize("average", AVERAGES.values())
def test_sharpness_without_a_valid_image_is_zero_with_a_graph(measure, average):
    logits = torch.rand(3, 4, requires_grad=True)
    loss = SharpnessLoss(measure, average, 0)(logits, torch.eye(3, 4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert not gradient.any()


def test_equal_logits_have_no_sharpness_and_a_finite_gradient():
    logits = torch.full((1, 3), 0.5, requires_grad=True)
    loss = SharpnessLoss(variation, mean_of_ratios, 0)(logits, torch.ones(1, 3, dtype=torch.bool))
    assert loss < 1e-6
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_soft_margin_equals_torchs():
    logits, labels = torch.randn(4, 5), torch.rand(4, 5) > 0.5
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, labels.float())
    torch.testing.assert_close(multi_label_soft_margin(logits, labels), expected)


def test_gradients():
    logits = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(
        [[1, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0]]
    ).bool()
    for loss in (
        multi_label_soft_margin,
        su_losses,
        ThresholdedSuLoss(torch.mean, 0.3, learned=False).double(),
        SharpnessLoss(variation, ratio_of_sums, 1),
    ):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x, labels), logits)


@pytest.mark.parametrize("average", AVERAGES.values())
def test_the_sharpness_of_two_processes_is_that_of_one(average):
    """Values and gradients of the processes average to one's; valid images are dealt unevenly."""
    torch.manual_seed(0)  # means near 0 would show the epsilon under the ratio
    logits = torch.rand(6, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(6, 5) > 0.4
    labels[0] = False
    loss = SharpnessLoss(variance_by_mean, average, 0)
    whole = loss(logits, labels)
    told = []

    def listen(count):
        told.append(count)
        return count

    parts = (slice(0, 3), slice(3, 6))
    for part in parts:
        loss(logits[part], labels[part], share=listen)
    means = [
        sum(pair) / 2 for pair in zip(told[: len(told) // 2], told[len(told) // 2 :], strict=True)
    ]
    halves = [
        loss(logits[part], labels[part], share=lambda _, left=list(means): left.pop(0))
        for part in parts
    ]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (sum(halves) / 2, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)
