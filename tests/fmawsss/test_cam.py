from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_clip import DTYPES, freeze, make_golden_clip, make_golden_prompts, make_small_clip
from golden_tools import assert_close, load_case, measure_deviation

from fmawsss.cam import (
    compute_cams,
    compute_cams_plainly,
    compute_cams_released,
    compute_logits,
    present_pairs,
    softmax_over_all,
    softmax_over_positives,
    softmax_over_positives_released,
    softmax_over_present,
    softmax_over_present_released,
)
from fmawsss.clip.last_block import PairVjp
from fmawsss.clip.pairs import list_pairs
from fmawsss.losses import CamActivationLoss, ContrastiveLoss, average_pairs, l1, reduce_all

CASES = [
    *(f"A_n_b1p3_cT_sm{softmax}_ls10" for softmax in ("False", "True", "fg_only")),
    *(
        f"A_n_b3_cF_sm{softmax}{scale}"
        for softmax in ("False", "True", "fg_only")
        for scale in ("", "_ls10")
    ),
    "A_n_b3_cT_smTrue",
    "A_n_b3one_cF_smfg_only",
    "A_n_b3z_cF_smTrue",
    *(f"A_x_b1p1_cF_sm{softmax}" for softmax in ("False", "True", "fg_only")),
]
RELEASED = {
    False: softmax_over_all,
    True: softmax_over_present_released,
    "fg_only": softmax_over_positives_released,
}
SOFTMAXES = [
    softmax_over_all,
    softmax_over_present,
    softmax_over_present_released,
    softmax_over_positives,
    softmax_over_positives_released,
]
FORMS = [compute_cams_plainly, compute_cams]
LABELS = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]).bool()


def compute_cams_one_by_one(clip, tokens, text_features, labels, softmax):
    """The formula, word by word: one backward pass for each pair, differentiable twice."""
    activations = clip.read_activations(tokens).detach().requires_grad_()
    logits = compute_logits(
        clip.pool_images(tokens, activations), text_features, clip.logit_scale.exp()
    )
    scores, cams = softmax(logits, labels), []
    for image, present in labels.nonzero().tolist():
        (gradient,) = torch.autograd.grad(scores[image, present], activations, create_graph=True)
        valid = tokens.valid[image]
        weight = gradient[image][valid].mean(dim=0)
        cam = torch.where(valid, (activations[image].detach() * weight).sum(dim=1), 0.0)
        cams.append(cam.reshape(tokens.grid))
    return logits, torch.stack(cams)


@pytest.fixture(scope="module")
def scene():
    """Images of 4 sizes in one padded batch, tokens, and text features that ask for gradients."""
    clip = freeze(make_small_clip(vision={"ls_init_value": 0.5})).double()
    torch.manual_seed(1)
    images, padding = (
        torch.randn(4, 3, 64, 80, dtype=torch.float64),
        torch.zeros(4, 64, 80, dtype=torch.bool),
    )
    padding[1, 48:], padding[2, :, :30], padding[3, 16:, 60:] = True, True, True
    text_features = torch.randn(6, 24, dtype=torch.float64, requires_grad=True)
    return clip, clip.encode_images(images, padding, 0), text_features


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compute_cams", FORMS)
def test_cams_match_golden_vectors(compute_cams, case, dtype):
    arrays, meta = load_case(f"case3_gradcam/{case}")
    inputs, _ = load_case(f"case3_gradcam/{meta['inputs']}")
    clip = make_golden_clip(dtype, logit_scale=meta["logit_scale_override"])
    prompts = make_golden_prompts(clip, meta, arrays["ctx"])
    labels, softmax = torch.from_numpy(arrays["fg_cls_lb"]).bool(), RELEASED[meta["sm_fg_exist"]]
    tokens = clip.encode_images(torch.from_numpy(inputs["img"]).to(dtype), None, 0)
    logits, cams = compute_cams(clip, tokens, prompts(), labels, softmax)
    check = f"case3_gradcam/{case}:"
    assert_close(logits, arrays["logits_f64"], f"{check}logits")
    assert_close(softmax(logits, labels), arrays["sm_logits_f64"], f"{check}sm_logits")
    assert_close(cams, arrays["pos_cam_f64"], f"{check}pos_cam")

    def differentiate(loss):
        (gradient,) = torch.autograd.grad(loss, prompts.context, retain_graph=True)
        return gradient.reshape(arrays["ctx"].shape)

    contrastive = ContrastiveLoss(gamma=1.0, average=average_pairs)(
        logits[:, : labels.shape[1]], labels
    )
    assert_close(contrastive, arrays["cl_loss_f64"], f"{check}cl_loss")
    assert_close(differentiate(contrastive), arrays["grad_ctx_cl_f64"], f"{check}grad_ctx_cl")
    activation = CamActivationLoss(l1, reduce_all, 0.0, True, 1.0, 1.0, 1.0)
    losses = activation(cams, torch.from_numpy(inputs["seg_lb"]), *present_pairs(labels))
    both = torch.stack([losses.foreground, losses.background])
    assert_close(both, arrays["cam_loss_f64"], f"{check}cam_loss")
    # pixels that tie with the peak push it or not, as rounding has it: the reference disagrees with
    # itself by 3e-3
    assert measure_deviation(differentiate(losses.total), arrays["grad_ctx_cam_f64"]) < 5e-3

    # saturated scores multiply the rounding of the image encoder: in fp32 only the unsaturated
    # cases are sharp
    weighted = differentiate((cams * torch.from_numpy(arrays["R"]).to(dtype)).sum())
    if dtype == torch.float64 or meta["logit_scale_override"] is not None:
        assert_close(weighted, arrays["grad_ctx_sumcamR_f64"], f"{check}grad_ctx_sumcamR")
    assert measure_deviation(weighted, arrays["grad_ctx_sumcamR_f64"]) < 5e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_released_softmax_matches_golden_vectors(dtype):
    arrays, _ = load_case("case3_gradcam/masked_softmax")
    suffix = "_f64" if dtype == torch.float64 else ""
    for row in range(len(arrays["mask"])):
        # all entries are classes here, none is background
        logits = torch.from_numpy(arrays["logits"][row : row + 1]).to(dtype).requires_grad_()
        probabilities = softmax_over_present_released(
            logits, torch.from_numpy(arrays["mask"][row : row + 1])
        )
        assert_close(
            probabilities[0], arrays["out" + suffix][row], "case3_gradcam/masked_softmax:out"
        )
        (gradient,) = torch.autograd.grad(
            (probabilities * torch.from_numpy(arrays["R"][row]).to(dtype)).sum(), logits
        )
        assert_close(gradient[0], arrays["grad" + suffix][row], "case3_gradcam/masked_softmax:grad")


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("compute", FORMS)
def test_cams_and_gradients_equal_the_plain_formulation(scene, compute, padded, softmax):
    clip, tokens, text_features = scene
    tokens = tokens if padded else replace(tokens, valid=torch.ones_like(tokens.valid))
    found = compute(clip, tokens, text_features, LABELS, softmax)
    expected = compute_cams_one_by_one(clip, tokens, text_features, LABELS, softmax)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    weights, gradients = torch.randn(found[1].shape, dtype=torch.float64), []
    for logits, cams in (found, expected):
        loss = (cams * weights).sum() + cams.square().sum() + 0.1 * logits.square().sum()
        gradients.extend(torch.autograd.grad(loss, text_features))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("softmax", [softmax_over_present, softmax_over_positives])
@pytest.mark.parametrize("compute_cams", FORMS)
def test_cams_pass_gradcheck(compute_cams, scene, softmax):
    clip, tokens, text_features = scene
    assert torch.autograd.gradcheck(
        lambda text: compute_cams(clip, tokens, text, LABELS, softmax),
        text_features,
        fast_mode=True,
    )


def test_the_jvp_is_the_transpose_of_the_vjp(scene):
    clip, tokens, _ = scene
    block = clip.open_last_block(tokens)
    features, channels = (
        torch.randn(4, 24, dtype=torch.float64),
        torch.randn(4, 64, dtype=torch.float64),
    )
    torch.testing.assert_close(
        (block.vjp(features) * channels).sum(1), (features * block.jvp(channels)).sum(1)
    )


def test_the_vjp_survives_gradients_out_of_reach_of_half_precision(scene):
    clip, tokens, _ = scene
    clip = freeze(make_small_clip())
    tokens = clip.encode_images(torch.randn(2, 3, 48, 48), None, 0)
    block, pairs = clip.open_last_block(tokens), list_pairs(torch.ones(2, 1, dtype=torch.bool))
    tiny = torch.randn(2, 24) * 1e-12
    exact = PairVjp.apply(tiny, block, pairs)
    with torch.autocast("cpu", torch.float16):
        half = PairVjp.apply(tiny, clip.open_last_block(tokens), pairs)
    assert measure_deviation(half, exact) < 0.01
    assert not PairVjp.apply(torch.zeros(2, 24), block, pairs).any()


@pytest.mark.parametrize("compute_cams", FORMS)
def test_padded_batch_equals_its_images_one_by_one(compute_cams):
    clip = freeze(make_small_clip()).double()
    small = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    images, padding = (
        torch.zeros(2, 3, 64, 64, dtype=torch.float64),
        torch.ones(2, 64, 64, dtype=torch.bool),
    )
    images[0], padding[0] = torch.randn(3, 64, 64, dtype=torch.float64), False
    images[1, :, :32, :48], padding[1, :32, :48] = small[0], False
    labels, text_features = (
        torch.tensor([[1, 0], [1, 1]]).bool(),
        torch.randn(3, 24, dtype=torch.float64),
    )
    tokens = clip.encode_images(images, padding, 0)
    _, together = compute_cams(clip, tokens, text_features, labels, softmax_over_present)
    _, alone = compute_cams(
        clip, clip.encode_images(small, None, 0), text_features, labels[1:], softmax_over_present
    )
    torch.testing.assert_close(together[1:, :2, :3], alone)
    assert not together[1:, 2:].any()
    assert not together[1:, :, 3:].any()
    _, released = compute_cams_released(clip, tokens, text_features, labels, softmax_over_present)
    torch.testing.assert_close(released[0], together[0])
    torch.testing.assert_close(released[1:, :2, :3], alone * (6 / 16))
    assert released[1:, 2:].all()


@pytest.mark.parametrize("compute_cams", FORMS)
def test_images_without_a_present_class(compute_cams, scene):
    clip, tokens, text_features = scene
    nothing = torch.zeros_like(LABELS)
    logits, cams = compute_cams(clip, tokens, text_features, nothing, softmax_over_present)
    assert cams.shape == (0, *tokens.grid)
    assert logits.shape == (4, 6)
    seeds = torch.zeros(4, 64, 80, dtype=torch.uint8)
    losses = CamActivationLoss(l1, reduce_all, 0.0, True, 1.0, 1.0, 1.0)(
        cams, seeds, *present_pairs(nothing)
    )
    (gradient,) = torch.autograd.grad(losses.total, text_features)
    assert losses.total == 0
    assert not gradient.any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("compute_cams", FORMS)
def test_cams_need_no_graph_around_them(compute_cams, scene, mode):
    clip, tokens, text_features = scene
    _, expected = compute_cams(clip, tokens, text_features, LABELS, softmax_over_present)
    with mode():
        labels, text_features = LABELS.clone(), text_features.clone()
        fresh = type(tokens)(tokens.inputs.clone(), tokens.valid.clone(), tokens.grid, None)
        _, cams = compute_cams(clip, fresh, text_features, labels, softmax_over_present)
    assert not cams.requires_grad
    torch.testing.assert_close(cams, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("compute_cams", FORMS)
def test_autocast_stays_near(compute_cams, scene, dtype):
    _, tokens, text_features = scene
    clip = freeze(make_small_clip())
    tokens = clip.encode_images(torch.randn(4, 3, 64, 80), None, 0)
    found = {}
    for name, enabled in (("exact", False), ("half", True)):
        text = text_features.detach().float().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=enabled):
            _, cams = compute_cams(clip, tokens, text, LABELS, softmax_over_present)
            assert cams.dtype == torch.float32
            loss = cams.square().sum()
        found[name] = (cams, *torch.autograd.grad(loss, text))
    for half, exact in zip(found["half"], found["exact"], strict=True):
        assert measure_deviation(half, exact) < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_pairs_are_ordered_by_image():
    images, classes = present_pairs(LABELS)
    assert images.tolist() == [0, 0, 0, 2, 3, 3]
    assert classes.tolist() == [0, 2, 3, 1, 0, 1]
