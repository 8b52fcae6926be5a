from __future__ import annotations

import re

import benchmarks.loader


def test_every_step_and_the_whole_loader_are_timed(capsys) -> None:
    benchmarks.loader.main(["--quick"])
    rows = dict(re.findall(r"^\| (.+) \| ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE))
    steps = {"read JPEG", "read seed", "colour jitter", "resize", "whole augmentation", "normalise"}
    assert set(rows) == steps | {"loader, 0 workers"}
    assert all(float(rate) > 0 for rate in rows.values())
