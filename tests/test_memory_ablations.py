"""The benchmark of the memory's parts scores what the pipeline made as the pipeline does."""

from __future__ import annotations

import json

import pytest

from benchmarks.memory_ablations import VARIANTS, measure, read_images


@pytest.mark.parametrize(("stage", "name"), [("cls", "coarse"), ("seg", "fine")])
def test_variants_are_scored_as_the_pipeline_scores(finished, tmp_path, stage, name):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "data").symlink_to(finished / "data")
    (tmp_path / "0" / "shapes").symlink_to(finished / "outputs" / "shapes")
    images = read_images(tmp_path / "0", 0, name)
    scores = json.loads((finished / "outputs/shapes/scores.json").read_text())
    alone, _ = measure(images, *VARIANTS["SAMS alone"])
    told, _ = measure(images, *VARIANTS["with memory"])
    assert alone == pytest.approx(scores[stage]["train"]["sams"]["miou"], abs=1e-6)
    assert told == pytest.approx(scores[f"{name}_memory"]["train"]["memory"]["miou"], abs=1e-6)
    unfiltered, error = measure(images, *VARIANTS["without the label filter"])
    assert unfiltered != told
    assert 0 <= error <= 1
