"""Write what a frozen encoder makes of fixed views into a feature store: `cache=features`."""

from __future__ import annotations

from typing import Any

import lightning as L

from fmawsss.files.features import FeatureStore
from fmawsss.records import Batch


class FeatureWriter(L.Callback):
    """One row per view; a row that is written is never encoded again."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        assert batch.views is not None
        self.store.write(batch.views, outputs)
