"""Whole training steps, from images to contexts, with and without gradient accumulation."""

from __future__ import annotations

import math

import pytest
import torch
from golden_clip import make_golden_clip
from golden_tools import assert_close, load_case

from fmawsss.cam import compute_cams, present_pairs, softmax_over_present_released
from fmawsss.contexts import NormalContexts
from fmawsss.losses import CamActivationLoss, ContrastiveLoss, average_pairs, l1, reduce_all
from fmawsss.prompts import LearnedPrompts, name_at_end, share_contexts
from fmawsss.schedules import warmup_cosine_schedule

BACKGROUND = ["ground", "grass", "sky", "water"]


@pytest.mark.parametrize("case", ["train_cls", "train_cls_sub2"])
def test_training_follows_the_golden_trajectory(case):
    arrays, meta = load_case(f"case12_pipeline/{case}")
    clip = make_golden_clip(torch.float64, logit_scale=math.log(10))
    start = NormalContexts(length=16, std=0.05, generator_seed=7)
    prompts = LearnedPrompts(
        clip, meta["fg_names"], BACKGROUND, start, name_at_end, share_contexts
    ).double()
    assert_close(prompts.context[0], arrays["ctx_f64"][0], "the named start")
    optimizer = torch.optim.SGD(
        prompts.parameters(), lr=meta["base_lr"], momentum=0.9, weight_decay=5e-4
    )
    schedule = warmup_cosine_schedule(
        optimizer, meta["warm_iters"], meta["max_iter"], warmup_lr=1e-5
    )
    classify = ContrastiveLoss(gamma=1.0, average=average_pairs)
    activate = CamActivationLoss(l1, reduce_all, 0.0, True, 1.0, 1.0, 1.0)

    for step in range(meta["kept_steps"]):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(arrays["lr"][step], rel=1e-9)
        optimizer.zero_grad()
        for part in range(meta["sub_iter"]):
            index = step * meta["sub_iter"] + part
            labels = torch.from_numpy(arrays["fg_cls_lb"][index]).bool()
            tokens = clip.encode_images(torch.from_numpy(arrays["img"][index]).double(), None, 0)
            logits, cams = compute_cams(
                clip, tokens, prompts(), labels, softmax_over_present_released
            )
            loss = classify(logits[:, : labels.shape[1]], labels)
            seen = activate(cams, torch.from_numpy(arrays["seg_lb"][index]), *present_pairs(labels))
            (loss / meta["sub_iter"]).backward()
            found = torch.stack([loss, loss, seen.foreground, seen.background])
            assert_close(found, arrays["losses_f64"][step, part], f"case12_pipeline/{case}:losses")
        optimizer.step()
        schedule.step()
        assert_close(prompts.context[0], arrays["ctx_f64"][step + 1], f"case12_pipeline/{case}:ctx")
