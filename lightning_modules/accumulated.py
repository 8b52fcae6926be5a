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
        self,
        predictions: Sequence[Integer[Tensor, "*_shape"]],
        targets: Sequence[Integer[Tensor, "*_other"]],
    ) -> None:
        """Add the images of a batch, masks and truths on the CPU; see `count_confusion`."""
        pairs = zip(predictions, targets, strict=True)
        counted = [count_confusion(*pair, len(self.names)) for pair in pairs]
        # nobody waits for the device
        self.matrix += sum(counted).to(self.matrix.device, non_blocking=True)

    def compute(self) -> SegmentationMetrics:
        """Return the metrics of everything seen so far."""
        return summarise_confusion(self.matrix, self.names)
