from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_clip import DTYPES
from golden_tools import assert_close, load_case

from fmawsss.cam import present_pairs
from fmawsss.losses import (
    CamActivationLoss,
    ContrastiveLoss,
    average_images,
    average_pairs,
    l1,
    l2,
    reduce_all,
    reduce_fg_bg,
    reduce_fg_bg_per_positive,
)

REDUCTIONS = {"all": reduce_all, "fg-bg": reduce_fg_bg, "fg-bg-per-pos": reduce_fg_bg_per_positive}
SUFFIXES = {torch.float32: "", torch.float64: "_f64"}
LABELS = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()


def make_cam_loss(
    distance=l1, reduce=reduce_all, threshold=0.0, detach_peak=True, initial_peak=1.0
):
    return CamActivationLoss(distance, reduce, threshold, detach_peak, initial_peak, 1.0, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("average", [average_pairs, average_images])
@pytest.mark.parametrize("gamma", [None, 2.0])
@pytest.mark.parametrize("case", ["cl_basic", "cl_noneg", "cl_novalid"])
def test_contrastive_matches_golden_vectors(case, gamma, average, dtype):
    arrays, _ = load_case(f"case4_loss/{case}")
    key = f"g{gamma}_{'pos_mean' if average is average_pairs else 'sample_mean'}"
    logits = torch.from_numpy(arrays["S"]).to(dtype).requires_grad_()
    labels = torch.from_numpy(arrays["cls_lb"])
    loss = ContrastiveLoss(gamma or 1.0, average)(logits, labels == 1, labels != 255)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(loss, arrays[f"loss_{key}{SUFFIXES[dtype]}"], f"case4_loss/{case}:loss_{key}")
    assert_close(gradient, arrays[f"grad_{key}_f64"], f"case4_loss/{case}:grad_{key}")


@pytest.mark.parametrize("average", [average_pairs, average_images])
def test_contrastive_equals_the_plain_formulation(average):
    logits, known = torch.randn(4, 4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.bool)
    known[0, 1] = False
    per_image = []
    for image in range(4):
        positives = [p for p in range(4) if LABELS[image, p] and known[image, p]]
        negatives = [n for n in range(4) if not LABELS[image, n] and known[image, n]]
        against = sum(logits[image, n].exp() for n in negatives)
        losses = [
            -(logits[image, p].exp() / (logits[image, p].exp() + against)).log()
            for p in positives
            if negatives
        ]
        if losses:
            per_image.append(torch.stack(losses))
    pairs = (
        torch.cat(per_image).mean()
        if average is average_pairs
        else torch.stack([x.mean() for x in per_image]).mean()
    )
    torch.testing.assert_close(ContrastiveLoss(1.0, average)(logits, LABELS, known), pairs)


def test_contrastive_is_stable_where_the_released_one_overflows():
    arrays, _ = load_case("case4_loss/cl_overflow")
    assert np.isnan(arrays["loss_gNone_pos_mean"])
    logits, labels = (
        torch.from_numpy(arrays["S"]).requires_grad_(),
        torch.from_numpy(arrays["cls_lb"]).bool(),
    )
    for average in (average_pairs, average_images):
        loss = ContrastiveLoss(1.0, average)(logits, labels)
        assert 0 <= loss < 1e-30
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-30
    hard = ContrastiveLoss(1.0, average_pairs)(
        torch.tensor([[-100.0, 100.0]]), torch.tensor([[True, False]])
    )
    assert hard == 200


def test_contrastive_passes_gradcheck():
    logits = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    for average in (average_pairs, average_images):
        assert torch.autograd.gradcheck(
            lambda x, a=average: ContrastiveLoss(2.0, a)(x, LABELS), logits
        )


@pytest.mark.parametrize("average", [average_pairs, average_images])
def test_contrastive_of_nothing_is_zero_with_a_graph(average):
    logits = torch.randn(4, 4, requires_grad=True)
    loss = ContrastiveLoss(1.0, average)(logits, torch.zeros_like(LABELS))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("average", [average_pairs, average_images])
def test_contrastive_of_two_processes_equals_that_of_one(average):
    logits = torch.randn(4, 4, dtype=torch.float64)
    loss = ContrastiveLoss(1.0, average)
    counts = []
    halves = (slice(0, 1), slice(1, 4))
    for half in halves:
        loss(logits[half], LABELS[half], share=lambda count: counts.append(count) or count)
    mean = sum(counts) / 2
    parts = [loss(logits[half], LABELS[half], share=lambda count: mean) for half in halves]
    torch.testing.assert_close(sum(parts) / 2, loss(logits, LABELS))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("distance", [l1, l2])
@pytest.mark.parametrize("case", ["cam_same", "cam_resize", "cam_allignore"])
def test_cam_activation_matches_golden_vectors(case, distance, reduction, dtype):
    arrays, _ = load_case(f"case4_loss/{case}")
    pairs = present_pairs(torch.from_numpy(arrays["fg_cls_lb"]).bool())
    for detached in (0, 1):
        for threshold in (0.0, 0.003):
            key = f"{distance.__name__}_{reduction}_det{detached}_th{threshold}"
            cams = torch.from_numpy(arrays["pos_cam"]).to(dtype).requires_grad_()
            loss = make_cam_loss(distance, REDUCTIONS[reduction], threshold, bool(detached))
            losses = loss(cams, torch.from_numpy(arrays["lb"]), *pairs)
            parts = (losses.foreground, losses.background)
            gradients = torch.stack(
                [torch.autograd.grad(part, cams, retain_graph=True)[0] for part in parts]
            )
            if np.isnan(
                arrays[f"loss_{key}_f64"]
            ).any():  # all pixels ignored: 0 with a graph instead
                assert losses.total == 0
                assert not gradients.any()
                continue
            assert_close(
                torch.stack(parts),
                arrays[f"loss_{key}{SUFFIXES[dtype]}"],
                f"case4_loss/{case}:loss_{key}",
            )
            assert_close(gradients, arrays[f"grad_{key}_f64"], f"case4_loss/{case}:grad_{key}")


def test_cam_activation_by_hand():
    cams = torch.tensor([[[4.0, 1.0], [-2.0, 3.0]]])
    seeds = torch.tensor([[[2, 2], [0, 255]]], dtype=torch.uint8)
    images, classes = torch.tensor([0]), torch.tensor([1])
    losses = make_cam_loss()(
        cams, seeds, images, classes
    )  # |4 - 4| + |4 - 1| on the seed, max(-2, 0) = 0 elsewhere
    assert (losses.foreground, losses.background, losses.total) == (1.0, 0.0, 1.0)
    other = make_cam_loss(threshold=-3.0)(cams, seeds, images, classes)
    torch.testing.assert_close(other.background, torch.tensor(1 / 3))
    squares = make_cam_loss(distance=l2, reduce=reduce_fg_bg)(cams, seeds, images, classes)
    torch.testing.assert_close(squares.foreground, torch.tensor(0.5 * 4.5 / (2 + 1e-5)))
    halved = make_cam_loss(initial_peak=2.0)(cams, seeds, images, classes)
    assert halved.foreground == 0.5
    weighted = CamActivationLoss(l1, reduce_all, 0.0, True, 1.0, 3.0, 1.0)(
        cams, seeds, images, classes
    )
    assert weighted.foreground == 3.0


def test_cam_activation_of_a_class_that_the_seed_lacks():
    cams = torch.full((1, 2, 2), 2.0)
    seeds = torch.zeros(1, 4, 4, dtype=torch.int64)
    losses = make_cam_loss()(cams, seeds, torch.tensor([0]), torch.tensor([3]))
    assert (losses.foreground, losses.background) == (0.0, 2.0)


def test_the_peak_is_never_below_zero():
    where = torch.tensor([0]), torch.tensor([0])
    losses = make_cam_loss()(torch.tensor([[[-1.0]]]), torch.tensor([[[1]]]), *where)
    assert (losses.foreground, losses.background) == (1.0, 0.0)

    # resized, with the formula written out: m = max(0, max over f of CAM), detached
    cams = -torch.rand(1, 14, 14, generator=torch.Generator().manual_seed(0)).requires_grad_()
    filled = torch.ones(1, 224, 224, dtype=torch.int64)
    resized = torch.nn.functional.interpolate(cams[None], (224, 224), mode="bilinear")
    expected = 0.5 * (0 - resized).square().mean()
    found = make_cam_loss(distance=l2)(cams, filled, *where).foreground
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, cams)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("detach_peak", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS.values())
def test_cam_activation_passes_gradcheck(reduction, detach_peak):
    torch.manual_seed(0)
    cams = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    seeds = torch.randint(0, 3, (2, 6, 7))
    images, classes = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    loss = make_cam_loss(l2, reduction, 0.1, detach_peak)
    if detach_peak:  # the foreground is not the derivative of anything, only the background is
        assert torch.autograd.gradcheck(lambda x: loss(x, seeds, images, classes).background, cams)
    else:
        assert torch.autograd.gradcheck(lambda x: loss(x, seeds, images, classes).total, cams)


@pytest.mark.parametrize("reduction", REDUCTIONS.values())
def test_cam_activation_without_pairs_is_zero_with_a_graph(reduction):
    cams = torch.zeros(0, 3, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    losses = make_cam_loss(reduce=reduction)(
        cams, torch.zeros(2, 6, 8, dtype=torch.uint8), none, none
    )
    assert losses.total == 0
    assert torch.autograd.grad(losses.total, cams)[0].shape == cams.shape


@pytest.mark.parametrize("reduction", [reduce_all, reduce_fg_bg_per_positive])
def test_cam_activation_of_two_processes_equals_that_of_one(reduction):
    torch.manual_seed(0)
    cams, seeds = torch.randn(3, 4, 4, dtype=torch.float64), torch.randint(0, 3, (2, 4, 4))
    images, classes = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    loss, counts, halves = make_cam_loss(reduce=reduction), [], (slice(0, 2), slice(2, 3))
    for half in halves:
        loss(
            cams[half],
            seeds,
            images[half],
            classes[half],
            share=lambda count: counts.append(count) or count,
        )
    mean = (counts[0] + counts[2]) / 2  # foreground and background ask for the same count
    parts = [
        loss(cams[half], seeds, images[half], classes[half], share=lambda count: mean).total
        for half in halves
    ]
    torch.testing.assert_close(sum(parts) / 2, loss(cams, seeds, images, classes).total)


def test_half_precision_cams_are_compared_in_float32():
    cams = torch.rand(1, 3, 3).half()
    losses = make_cam_loss()(
        cams, torch.ones(1, 6, 6, dtype=torch.uint8), torch.tensor([0]), torch.tensor([0])
    )
    assert losses.total.dtype == torch.float32
