from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden_tools import assert_close, load_case
from torchmetrics.classification import MulticlassJaccardIndex

from fmawsss.metrics import (
    count_boundaries,
    count_confusion,
    find_band,
    summarise_confusion,
)
from lightning_modules.accumulated import SegmentationMetric

NAMES = ("background", "cat", "dog", "bird")
TOTALS = {
    "miou": "mIoU",
    "accuracy": "accuracy",
    "mean_precision": "macro_avg_precision",
    "mean_recall": "macro_avg_recall",
    "weighted_iou": "weighted_mIoU",
    "f1": "F1",
}
BY_CLASS = {
    "iou": "cls_IoU",
    "precision": "cls_precision",
    "recall": "cls_recall",
    "present": "valid",
}


def random_masks(seed, size=(13, 17), values=(0, 1, 2, 3, 255)):
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor(values, dtype=torch.uint8)
    prediction = torch.randint(0, 4, size, generator=generator, dtype=torch.uint8)
    return prediction, values[torch.randint(0, len(values), size, generator=generator)]


@pytest.mark.parametrize("case", ["metric_missing", "metric_small"])
def test_golden_scores(case):
    arrays, meta = load_case(f"case6_score/{case}")
    names = [str(index) for index in range(meta["class_num"])]
    metric = SegmentationMetric(names)
    for image in range(3):
        metric.update(
            [torch.from_numpy(arrays[f"pred{image}"])], [torch.from_numpy(arrays[f"gt{image}"])]
        )
    assert_close(metric.matrix[:, :-1], arrays["conf_matrix"], "confusion")
    assert not metric.matrix[:, -1].any()

    scores = metric.compute()
    for ours, theirs in TOTALS.items():
        assert getattr(scores, ours) == pytest.approx(arrays[theirs].item(), abs=1e-12), ours
    for ours, theirs in BY_CLASS.items():
        assert_close(np.array(list(getattr(scores, ours).values())), arrays[theirs], ours)


def test_confusion_equals_counting_pixel_by_pixel():
    prediction, target = random_masks(0)
    prediction[0, :5] = torch.tensor([255, 4, 5, 200, 254])
    expected = torch.zeros(4, 5, dtype=torch.int64)
    for guess, truth in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        if truth != 255:
            expected[truth, min(guess, 4)] += 1
    assert torch.equal(count_confusion(prediction, target, 4), expected)
    assert torch.equal(
        count_confusion(prediction.long().where(prediction < 4, -1), target, 4), expected
    )


def test_scores_by_hand():
    matrix = torch.tensor([[6, 2, 0, 0, 0], [1, 3, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 2, 0, 0]])
    scores = summarise_confusion(matrix, NAMES)
    assert scores.present == {"background": True, "cat": True, "dog": False, "bird": True}
    assert scores.iou == pytest.approx({"background": 6 / 9, "cat": 3 / 7, "dog": 0, "bird": 0})
    assert scores.miou == pytest.approx((6 / 9 + 3 / 7 + 0) / 3)
    assert scores.accuracy == pytest.approx(9 / 15)
    assert scores.precision == pytest.approx(
        {"background": 6 / 7, "cat": 3 / 5, "dog": 0, "bird": math.nan}, nan_ok=True
    )
    assert scores.recall == pytest.approx(
        {"background": 6 / 8, "cat": 3 / 5, "dog": math.nan, "bird": 0}, nan_ok=True
    )
    assert scores.mean_precision == pytest.approx((6 / 7 + 3 / 5 + 0) / 3)
    assert scores.mean_recall == pytest.approx((6 / 8 + 3 / 5 + 0) / 3)
    assert scores.weighted_iou == pytest.approx((8 * 6 / 9 + 5 * 3 / 7) / 15)
    assert scores.f1 == pytest.approx((12 / 15 + 6 / 10 + 0) / 3)
    assert scores.invalid == pytest.approx(1 / 15)


def test_miou_equals_torchmetrics_where_every_class_is_present():
    prediction, target = random_masks(1)
    theirs = MulticlassJaccardIndex(4, average="macro", ignore_index=255, validate_args=False)(
        prediction, target
    )
    assert summarise_confusion(count_confusion(prediction, target, 4), NAMES).miou == pytest.approx(
        theirs.item()
    )


def test_a_predicted_255_is_wrong_and_reported():
    target = torch.zeros(2, 4, dtype=torch.uint8)
    prediction = target.clone()
    prediction[0, 0] = 255
    scores = summarise_confusion(count_confusion(prediction, target, 4), NAMES)
    assert scores.miou == scores.accuracy == pytest.approx(7 / 8)
    assert scores.invalid == pytest.approx(1 / 8)


def test_the_data_set_is_scored_as_one():
    metric, parts = SegmentationMetric(NAMES), []
    images = [random_masks(seed, size) for seed, size in enumerate([(5, 7), (9, 4), (3, 3)])]
    for batch in (images[:2], images[2:]):
        metric.update(*zip(*batch, strict=True))
        parts += [(prediction.flatten(), target.flatten()) for prediction, target in batch]
    together = count_confusion(*(torch.cat(part) for part in zip(*parts, strict=True)), 4)
    assert metric.compute() == summarise_confusion(together, NAMES)
    assert metric._reductions["matrix"](torch.stack([together, together])).equal(2 * together)
    metric.reset()
    assert not metric.matrix.any()


def test_names_of_the_logged_values():
    target = torch.tensor([[0, 1, 1]])
    scores = summarise_confusion(count_confusion(torch.tensor([[0, 1, 2]]), target, 4), NAMES)
    named = scores.name_values("val")
    assert named["val/miou"] == pytest.approx(0.75)
    assert {name for name in named if name.startswith("val/iou/")} == {
        "val/iou/background",
        "val/iou/cat",
    }
    assert not any(math.isnan(value) for value in named.values())


def test_nothing_to_score_is_nan():
    ignored = torch.full((3, 3), 255, dtype=torch.uint8)
    scores = summarise_confusion(count_confusion(ignored, ignored, 4), NAMES)
    assert math.isnan(scores.miou)
    assert math.isnan(scores.accuracy)


def test_masks_must_fit_the_truth():
    with pytest.raises(ValueError, match=r"\(2, 2\) against a truth of shape \(2, 3\)"):
        count_confusion(torch.zeros(2, 2).byte(), torch.zeros(2, 3).byte(), 4)
    with pytest.raises(ValueError, match=r"Truth holds \[0, 9\], expected 0…3 or 255"):
        count_confusion(torch.zeros(1, 2).byte(), torch.tensor([[0, 9]]), 4)


def find_band_slowly(mask, distance):
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        window = [
            (j, i)
            for j in range(y - distance, y + distance + 1)
            for i in range(x - distance, x + distance + 1)
        ]
        band[y, x] = any(not (0 <= j < height and 0 <= i < width and mask[j, i]) for j, i in window)
    return band


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_the_band_is_the_obvious_one(distance):
    mask = np.random.default_rng(0).random((12, 15)) < 0.95
    assert (find_band(mask, distance) == find_band_slowly(mask, distance)).all()


def test_equal_masks_score_one_though_their_edge_is_ignored():
    truth = torch.zeros(100, 100, dtype=torch.uint8)
    truth[20:60, 20:60] = 2
    mask = truth.clone()
    truth[18:22, 18:62] = 255
    shared, either = count_boundaries(mask, truth, 3).unbind(1)
    assert (shared == either).all()
    assert shared[1] == 0 < shared[2]


def test_a_shifted_square_by_hand():
    """100 x 100: bands are round(0.02 · 141.4) = 3 wide; the squares of 40 lie a column apart."""
    truth, mask = torch.zeros(100, 100, dtype=torch.uint8), torch.zeros(100, 100, dtype=torch.uint8)
    truth[20:60, 20:60], mask[20:60, 21:61] = 1, 1
    shared, either = count_boundaries(mask, truth, 2)[1].tolist()
    ring = 40 * 40 - 34 * 34
    # rows near top and bottom share 39 columns, the others two columns at each side
    assert shared == 6 * 39 + 34 * 4
    assert either == 2 * ring - shared


def test_predictions_of_no_class_are_wrong():
    truth = torch.ones(10, 10, dtype=torch.uint8)
    shared, either = count_boundaries(torch.full_like(truth, 255), truth, 2)[1].tolist()
    assert (shared, either) == (0, 36)
