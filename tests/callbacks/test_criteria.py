"""The number that a sweep maximises comes from a split that is named, or from nowhere."""

from __future__ import annotations

import json

import pytest

from stages.sweeps.criteria import read_agreement, read_miou


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"seg": {"train": {"cam": {"miou": 0.4}, "sams": {"miou": 0.5}}}}))
    return path


def test_the_miou_of_a_split_is_read(scores):
    assert read_miou(scores, "seg", "train", "sams") == 0.5
    assert read_miou(scores, "seg", "train", "cam") == 0.4


@pytest.mark.parametrize(
    ("split", "masks"), [("val", "sams"), ("train", "network"), (["train", "val"], "sams")]
)
def test_another_split_is_refused(scores, split, masks):
    with pytest.raises(
        ValueError, match=r"only \(train: cam sams\); name one with criterion\.split"
    ):
        read_miou(scores, "seg", split, masks)


def test_without_scores_there_is_no_number(tmp_path, scores):
    assert read_miou(tmp_path / "none.json", "seg", "train", "sams") is None
    assert read_miou(scores, "seg", "train", None) is None


def test_agreement_is_averaged_over_images(tmp_path):
    lines = [
        {"name": "a", "agreement": 0.5},
        {"name": "b", "agreement": 1.0},
        {"name": "c", "agreement": None},
    ]
    (tmp_path / "seeds.scores.1-0.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_agreement(tmp_path / "seeds") == 0.75
    with pytest.raises(ValueError, match="criterion=miou"):
        read_agreement(tmp_path / "masks")
