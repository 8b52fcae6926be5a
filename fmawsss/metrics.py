"""Metrics of masks: mIoU and others from one confusion matrix of a data set, and Boundary IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

IGNORE = 255  # the value of pixels that take no part, in masks and in seeds
CONTOUR_SHARE = 0.02  # of the image's diagonal: how far from the contour a pixel may lie


class SegmentationMetrics(NamedTuple):
    """Metrics in 0…1; NaN where nothing defines them (neither truth nor prediction has a class)."""

    miou: float  # mean IoU over the classes present in the truth
    accuracy: float  # pixels that are right
    mean_precision: float  # over the classes that were predicted
    mean_recall: float  # over the classes present in the truth
    weighted_iou: float  # IoU, classes weighted by their pixels in the truth
    f1: float  # mean F1 over the classes present in the truth; one without any hit counts as 0
    iou: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    present: dict[str, bool]  # does the truth have the class?
    invalid: float  # pixels predicted as 255 or as no class at all; each counts as wrong

    def name_values(self, prefix: str) -> dict[str, float]:
        """Name the metrics for a logger, `val/miou`, `val/iou/<class>`; without absent classes."""
        totals = (
            "miou",
            "accuracy",
            "mean_precision",
            "mean_recall",
            "weighted_iou",
            "f1",
            "invalid",
        )
        named = {f"{prefix}/{total}": getattr(self, total) for total in totals}
        return named | {
            f"{prefix}/iou/{name}": iou for name, iou in self.iou.items() if self.present[name]
        }


def count_confusion(
    prediction: Integer[Tensor, "*shape"], target: Integer[Tensor, "*other"], classes: int
) -> Int64[Tensor, "R R+1"]:
    """Count pixels by truth (rows) and prediction (columns); `classes` R includes the background.

    The last column counts predictions that are no class, 255 among them. Pixels whose truth is 255
    are left out. Raises ValueError on shapes that differ and on a truth that is neither a class nor
    255.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"Prediction of shape {tuple(prediction.shape)} against a truth of shape "
            f"{tuple(target.shape)}: resize the logits, not the truth, to the original size of the "
            "image."
        )

    # Leave ignored pixels out
    valid = target != IGNORE
    truth, guess = target[valid].long(), prediction[valid].long()
    if truth.numel() and not 0 <= truth.min() <= truth.max() < classes:
        raise ValueError(
            f"Truth holds {truth.unique().tolist()}, expected 0…{classes - 1} or {IGNORE}: the "
            "masks belong to another list of classes, or they are colour images read as grey ones."
        )

    # One number for each pair of truth and guess
    guess = torch.where((guess < 0) | (guess > classes), classes, guess)
    counts = torch.bincount(truth * (classes + 1) + guess, minlength=classes * (classes + 1))
    return counts.view(classes, classes + 1)


def summarise_confusion(
    matrix: Int64[Tensor, "R R+1"], names: Sequence[str]
) -> SegmentationMetrics:
    """Summarise a confusion matrix; `names` holds the R class names, the background's first."""
    counts = matrix.cpu().double()
    hits, truth, guessed = counts.diagonal(), counts.sum(1), counts[:, :-1].sum(0)
    present, total = truth > 0, counts.sum()

    # 0 / 0 is NaN, and stays NaN in the report: nothing was asked, nothing was answered
    iou, precision, recall = hits / (truth + guessed - hits), hits / guessed, hits / truth
    f1 = 2 * hits / (truth + guessed)

    def by_name(values: Tensor) -> dict[str, Any]:
        return dict(zip(names, values.tolist(), strict=True))

    return SegmentationMetrics(
        miou=iou[present].mean().item(),
        accuracy=(hits.sum() / total).item(),
        mean_precision=precision.nanmean().item(),
        mean_recall=recall.nanmean().item(),
        weighted_iou=((truth * iou)[present].sum() / total).item(),
        f1=f1[present].mean().item(),
        iou=by_name(iou),
        precision=by_name(precision),
        recall=by_name(recall),
        present=by_name(present),
        invalid=(counts[:, -1].sum() / total).item(),
    )


def count_boundaries(
    prediction: Integer[Tensor, "H W"], target: Integer[Tensor, "H W"], classes: int
) -> Int64[Tensor, "R 2"]:
    """Count the pixels near the contours of R classes: in both masks, and in either.

    The ratio of the two, each summed over the images of a data set, is the Boundary IoU (Cheng et
    al., CVPR 2021) of a class: the IoU of the pixels of a mask that lie near its contour. Pixels
    whose truth is 255 are left out; they end a mask on both sides, as the edge of the image does.
    """
    truth, guess = np.asarray(target.cpu()), np.asarray(prediction.cpu())
    valid = truth != IGNORE

    # near: a share of the diagonal, at least one pixel
    distance = max(round(CONTOUR_SHARE * math.hypot(*truth.shape)), 1)
    counts = torch.zeros(classes, 2, dtype=torch.int64)
    for label in np.union1d(truth[valid], guess[valid & (guess < classes)]).tolist():
        bands = [find_band((mask == label) & valid, distance) for mask in (truth, guess)]
        counts[label, 0] = int((bands[0] & bands[1]).sum())
        counts[label, 1] = int((bands[0] | bands[1]).sum())
    return counts


def find_band(mask: Bool[np.ndarray, "H W"], distance: int) -> Bool[np.ndarray, "H W"]:
    """Find the pixels of a mask that lie within a (chessboard) distance from what is not in it.

    What lies outside the image is not in it, either.
    """
    inner = cv2.erode(
        mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=distance,
        borderType=cv2.BORDER_CONSTANT, borderValue=0,
    )  # fmt: skip
    return mask & (inner == 0)
