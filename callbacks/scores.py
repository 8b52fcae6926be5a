"""Score seeds against ground truth where there is any; nothing is ever chosen by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L

from fmawsss.metrics import SegmentationMetric, SegmentationScores


class SeedScores(L.Callback):
    """One confusion matrix per kind of seed (`cam`, `caa`, `sams`) over the whole split; `scores` after prediction."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.names = ("background", *classes)
        self.metrics: dict[str, SegmentationMetric] = {}
        self.scores: dict[str, SegmentationScores] = {}

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch."""
        if batch.truths is None:
            return
        for prediction, truth in zip(outputs, batch.truths, strict=True):
            for kind, seed in prediction.seeds.items():
                metric = self.metrics.setdefault(kind, SegmentationMetric(self.names).to(pl_module.device))
                metric.update(seed.labels, truth)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compute the scores, over all processes."""
        self.scores = {kind: metric.compute() for kind, metric in self.metrics.items()}
