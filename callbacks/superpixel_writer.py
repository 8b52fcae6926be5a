"""Write the superpixels of every image, and say at the end what was made."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.scores import read_lines
from fmawsss.files.products import read_fingerprint
from fmawsss.files.storage import read_superpixels, write_superpixels
from lightning_modules.superpixels import SuperpixelPrediction

logger = logging.getLogger(__name__)


class SuperpixelWriter(L.Callback):
    """One file per image, `<folder>/<name>.npz` (docs/superpixels.md), written atomically as soon
    as it is known.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.fingerprint = read_fingerprint(self.folder)
        self.checked: set[str] = set()
        self.images = 0
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
            write_superpixels(
                self.folder / f"{prediction.name}.npz", prediction.superpixels, self.fingerprint
            )
            self.images += 1

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sum up, earlier runs and other shards included: masks per level, images without masks;
        seconds per image.
        """
        if not self.images:
            return
        seconds = (time.monotonic() - self.started) / self.images
        told = {
            name: line["superpixels"]["levels"] for name, line in read_lines(self.folder).items()
        }
        levels = [sum(level) for level in zip(*told.values(), strict=True)]
        per_level = ", ".join(
            f"level {level}: {levels[level]}" for level in (2, 1, 0) if levels[level]
        )
        masks = sum(levels)
        logger.info(
            "%d images cut into %d masks (%s), %.2f s each",
            len(told),
            masks,
            per_level or "none",
            seconds,
        )
        empty = [name for name, counts in told.items() if not sum(counts)]
        if empty:
            logger.warning("%d images without any mask, e.g. %s", len(empty), ", ".join(empty[:5]))
