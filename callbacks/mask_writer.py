"""Write the predicted mask of every image, the mask laid over the image and, on request, how sure
it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from callbacks.prediction_writer import PngWriter
from fmawsss.files.storage import write_palette_png, write_png
from fmawsss.viz import make_palette, overlay_mask
from lightning_modules.network import MaskPrediction


class MaskWriter(L.Callback):
    """`<folder>/<name>.png` with the class of each pixel as a palette index, and
    `<overlays>/<name>.png` to look at.
    """

    def __init__(self, folder: str | Path, overlays: str | Path) -> None:
        self.folder = Path(folder)
        self.overlays = Path(overlays)
        self.palette = make_palette(256)

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return (self.folder / f"{name}.png").is_file() and (self.overlays / f"{name}.png").is_file()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[MaskPrediction] = outputs
        for prediction, image in zip(predictions, batch.originals, strict=True):
            mask = prediction.mask.cpu().numpy()
            write_palette_png(self.folder / f"{prediction.name}.png", mask, self.palette)
            write_png(
                self.overlays / f"{prediction.name}.png",
                overlay_mask(image, mask, self.palette, alpha=0.5),
            )


class ConfidenceWriter(PngWriter):
    """`<folder>/<name>.png`, 16-bit grey: the probability of each pixel's class times 65535."""

    def write(self, prediction: MaskPrediction, path: Path) -> None:
        """Write the confidence of one image's mask."""
        write_png(
            path, np.rint(prediction.confidence.float().cpu().numpy() * 65535).astype(np.uint16)
        )
