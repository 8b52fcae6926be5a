"""The record of a product is there before its first file, though another shard took it back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.locks import wait_lock
from fmawsss.files.products import Product


class RecordKeeper(L.Callback):
    """Enter a part of a product in its record again, right before its first files are written.

    A shard that fails before any file is there takes the record back, which others go by, too.
    `beside` is what lies beside the product. Raises ProductMismatch where a run with other settings
    made files meanwhile.
    """

    def __init__(self, product: Product, part: str, inputs: str, beside: Sequence[Path]) -> None:
        self.product = product
        self.part = part
        self.inputs = inputs
        self.beside = beside
        self.kept = False

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Look at the record before the first batch is written."""
        if self.kept:
            return
        with wait_lock(self.product.record_path):
            self.product.open(overwrite=False, beside=self.beside)
            self.product.start(self.part, self.inputs, self.beside)
        self.kept = True
