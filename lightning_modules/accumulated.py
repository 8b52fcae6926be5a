"""Metrics of masks that are accumulated while a module validates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Integer
from torch import Tensor
from torchmetrics import Metric

from fmawsss.metrics import SegmentationMetrics, count_confusion, summarise_confusion


class SegmentationMetric(Metric):
    """Accumulate the confusion matrix over images and processes."""

    full_state_update = False
    matrix: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        size = len(self.names)
        self.add_state(
            "matrix", torch.zeros(size, size + 1, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(
        self, prediction: Integer[Tensor, "*shape"], target: Integer[Tensor, "*other"]
    ) -> None:
        """Add one image, or several of one size; see `count_confusion`."""
        self.matrix += count_confusion(prediction, target, len(self.names))

    def compute(self) -> SegmentationMetrics:
        """Return the metrics of everything seen so far."""
        return summarise_confusion(self.matrix, self.names)
