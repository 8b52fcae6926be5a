"""Write the superpixels of every image, and say at the end what was made."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.products import read_fingerprint
from fmawsss.storage import read_superpixels, write_superpixels
from lightning_modules.superpixels import SuperpixelPrediction

logger = logging.getLogger(__name__)


class SuperpixelWriter(L.Callback):
    """One file per image, `<folder>/<name>.npz` (docs/superpixels.md), written atomically as soon as it is known."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.fingerprint = read_fingerprint(self.folder)
        self.levels: Counter[int] = Counter()
        self.checked: set[str] = set()
        self.images = 0
        self.empty: list[str] = []
        self.started = time.monotonic()

    def has(self, name: str) -> bool:
        """Say whether the image is done: its file is there, whole, and made with these settings."""
        if name not in self.checked:
            try:
                read_superpixels(self.folder / f"{name}.npz", self.fingerprint)
            except (FileNotFoundError, ValueError):
                return False
            self.checked.add(name)
        return True

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; say what was there before."""
        self.started = time.monotonic()
        if self.checked:
            logger.info("%d images are done already", len(self.checked))

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SuperpixelPrediction] = outputs
        for prediction in predictions:
            write_superpixels(self.folder / f"{prediction.name}.npz", prediction.superpixels, self.fingerprint)
            self.levels.update(int(level) for level in prediction.superpixels.level)
            self.images += 1
            if not len(prediction.superpixels):
                self.empty.append(prediction.name)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sum up: masks per level, images without masks, seconds per image."""
        if not self.images:
            return
        per_level = ", ".join(f"level {level}: {self.levels[level]}" for level in sorted(self.levels, reverse=True))
        seconds = (time.monotonic() - self.started) / self.images
        masks = sum(self.levels.values())
        logger.info("%d images cut into %d masks (%s), %.2f s each", self.images, masks, per_level or "none", seconds)
        if self.empty:
            logger.warning("%d images without any mask, e.g. %s", len(self.empty), ", ".join(self.empty[:5]))
