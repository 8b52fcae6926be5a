"""Boundary IoU (Cheng et al., CVPR 2021): IoU of the pixels of a class that lie near its contour."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from fmawsss.metrics import IGNORE

SHARE = 0.02  # of the image's diagonal: how far from the contour a pixel may lie


def count_boundaries(
    prediction: Integer[Tensor, "H W"], target: Integer[Tensor, "H W"], classes: int
) -> Int64[Tensor, "R 2"]:
    """Count, for each of R classes, the pixels in which the bands of prediction and truth meet, and
    those of either.

    Summed over the images of a data set, their ratio is the Boundary IoU of the class. Pixels whose
    truth is 255 are
    left out, and end a mask on both sides as the edge of the image does: equal masks score 1.
    """
    truth, guess = np.asarray(target.cpu()), np.asarray(prediction.cpu())
    valid = truth != IGNORE
    distance = max(round(SHARE * math.hypot(*truth.shape)), 1)
    counts = torch.zeros(classes, 2, dtype=torch.int64)
    for label in np.union1d(truth[valid], guess[valid & (guess < classes)]).tolist():
        bands = [find_band((mask == label) & valid, distance) for mask in (truth, guess)]
        counts[label, 0], counts[label, 1] = (
            int((bands[0] & bands[1]).sum()),
            int((bands[0] | bands[1]).sum()),
        )
    return counts


def find_band(mask: Bool[np.ndarray, "H W"], distance: int) -> Bool[np.ndarray, "H W"]:
    """Find the pixels of a mask within a (chessboard) distance from what is not in it, the image's
    outside included.
    """
    inner = cv2.erode(
        mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=distance,
        borderType=cv2.BORDER_CONSTANT, borderValue=0,
    )  # fmt: skip
    return mask & (inner == 0)
