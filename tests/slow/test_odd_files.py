"""Some thousands of odd files, of which `tests/test_odd_files.py` judges a few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_odd_files import judge_cams, judge_image, judge_mask, judge_superpixels

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of decoders


@pytest.mark.parametrize("judge", [judge_image, judge_mask, judge_cams, judge_superpixels])
@pytest.mark.parametrize("part", range(8))
def test_odd_files_are_judged_alike(judge: Callable, part: int, tmp_path: Path) -> None:
    for seed in range(10_000 + 500 * part, 10_500 + 500 * part):
        judge(seed, tmp_path)
