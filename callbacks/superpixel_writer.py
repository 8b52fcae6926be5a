"""Write the superpixels of every image, and say at the end what was made."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.contents import Made, read_notes
from fmawsss.files.journals import read_lines
from fmawsss.files.products import read_fingerprint
from fmawsss.files.storage import holds_superpixels, write_superpixels
from fmawsss.records import SuperpixelPrediction

logger = logging.getLogger(__name__)


class SuperpixelWriter(L.Callback):
    """One file per image, `<folder>/<name>.npz` (docs/superpixels.md), written as a whole."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.made = Made(self.folder, ".npz")
        self.fingerprint = read_fingerprint(self.folder)
        self.checked: set[str] = set()
        self.images = 0
        self.started = time.monotonic()

    def has(self, name: str) -> bool:
        """Say whether the image is done: its file is there, whole, and made with these settings.

        A file that was noted when the product was finished, and compared with its note when this
        stage began, is not opened.
        """
        path = self.folder / f"{name}.npz"
        known = name in self.checked or (name in self.made and f"{name}.npz" in self.noted)
        if not known and not holds_superpixels(path, self.fingerprint):
            return False
        self.checked.add(name)
        return True

    @cached_property
    def noted(self) -> set[str]:
        """The files that the product has notes of."""
        return {*read_notes(self.folder)}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; say what was there before."""
        self.started = time.monotonic()
        if self.checked:
            logger.info("%d images are done already", len(self.checked))

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SuperpixelPrediction] = outputs
        for prediction in predictions:
            write_superpixels(
                self.folder / f"{prediction.name}.npz", prediction.superpixels, self.fingerprint
            )
            self.images += 1

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sum up the masks, those of earlier runs and other shards included."""
        if not self.images:
            return
        seconds = (time.monotonic() - self.started) / self.images

        # Masks by level, the largest level first
        lines = read_lines(self.folder)
        counted = {name: line["superpixels"]["levels"] for name, line in lines.items()}
        levels = [sum(level) for level in zip(*counted.values(), strict=True)]
        shown = [f"level {level}: {levels[level]}" for level in (2, 1, 0) if levels[level]]
        logger.info(
            "%d images cut into %d masks (%s), %.2f s each",
            len(counted),
            sum(levels),
            ", ".join(shown) or "none",
            seconds,
        )

        # Images that a person should look at
        empty = [name for name, counts in counted.items() if not sum(counts)]
        if empty:
            logger.warning("%d images without any mask, e.g. %s", len(empty), ", ".join(empty[:5]))
