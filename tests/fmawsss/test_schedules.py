from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from golden_tools import load_case

from fmawsss import schedules
from fmawsss.schedules import poly_schedule, warmup_cosine, warmup_cosine_schedule


def test_examples():
    assert doctest.testmod(schedules).failed == 0


@pytest.mark.parametrize("case", ["voc_cls", "coco_cls"])
def test_learning_rates_match_golden_vectors(case):
    arrays, meta = load_case(f"case9_lr/{case}")
    steps = arrays["steps"] if "steps" in arrays else range(meta["max_iter"])
    rates = [
        warmup_cosine(int(step), meta["warm_iters"], meta["max_iter"], meta["base_lr"], 1e-5)
        for step in steps
    ]
    np.testing.assert_allclose(rates, arrays["lrs"], rtol=1e-9, atol=1e-15)
    assert (
        warmup_cosine(meta["max_iter"], meta["warm_iters"], meta["max_iter"], meta["base_lr"], 1e-5)
        == 0
    )
    assert arrays["lr_after_last"] == 0


def test_the_schedule_drives_every_group_and_resumes(tmp_path):
    arrays, meta = load_case("case9_lr/voc_cls")

    def build():
        groups = [
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1e-3, 1e-2)
        ]
        optimizer = torch.optim.SGD(groups)
        return optimizer, warmup_cosine_schedule(
            optimizer, meta["warm_iters"], meta["max_iter"], 1e-5
        )

    optimizer, schedule = build()
    for step in range(meta["max_iter"]):
        if step == 700:
            torch.save((optimizer.state_dict(), schedule.state_dict()), tmp_path / "state.pt")
            states = torch.load(tmp_path / "state.pt", weights_only=True)
            optimizer, schedule = build()
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates[0] == pytest.approx(arrays["lrs"][step], rel=1e-9)
        assert rates[1] == pytest.approx(
            1e-5 if step < meta["warm_iters"] else 10 * arrays["lrs"][step], rel=1e-9
        )
        optimizer.step()
        schedule.step()


def test_poly_falls_from_the_first_step_to_zero():
    optimizer = torch.optim.SGD(
        [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.1}], lr=1.0
    )
    schedule = poly_schedule(optimizer, total=4, power=0.9)
    for step in range(6):
        rate = max(1 - step / 4, 0) ** 0.9
        assert schedule.get_last_lr() == pytest.approx([rate, 0.1 * rate])
        optimizer.step()
        schedule.step()
