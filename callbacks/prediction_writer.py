"""The frame of a writer with one PNG per image: where the files lie, and which are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.contents import Made
from fmawsss.resizing import Size


class PngWriter(L.Callback, ABC):
    """One file per image, `<folder>/<name>.png`; a subclass says what is in it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.made = Made(self.folder, ".png")

    @abstractmethod
    def write(self, prediction: Any, path: Path, size: Size | None) -> None:
        """Write the file of one image, at the size (height, width) that the image has on disk."""

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return name in self.made

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        sizes = batch.on_disk or [None] * len(outputs)
        for prediction, size in zip(outputs, sizes, strict=True):
            self.write(prediction, self.folder / f"{prediction.name}.png", size)
