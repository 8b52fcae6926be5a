"""Write the mask of every image, the mask over the image and, on request, its confidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from callbacks.prediction_writer import PngWriter
from fmawsss.files.contents import Made
from fmawsss.files.png import write_palette_png, write_png
from fmawsss.records import Batch, MaskPrediction, Prediction
from fmawsss.resizing import Size
from fmawsss.viz import choose_colours, make_palette, overlay_mask


class MaskWriter(L.Callback):
    """`<folder>/<name>.png` with the class of each pixel, `<overlays>/<name>.png` to look at.

    Classes are palette indices. Of a prediction with several masks the last one is written.
    """

    def __init__(self, folder: str | Path, overlays: str | Path) -> None:
        self.folder = Path(folder)
        self.overlays = Path(overlays)
        self.made = [Made(self.folder, ".png"), Made(self.overlays, ".png")]
        self.palette = make_palette(256)

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return all(name in made for made in self.made)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[Prediction] = outputs
        colours = choose_colours(len(pl_module.classes))
        for prediction, image in zip(predictions, batch.originals, strict=True):
            *_, last = prediction.masks().values()
            mask = last.cpu().numpy()
            write_palette_png(self.folder / f"{prediction.name}.png", mask, self.palette)
            overlay = overlay_mask(image, mask, colours, alpha=0.5)
            write_png(self.overlays / f"{prediction.name}.png", overlay)


class ConfidenceWriter(PngWriter):
    """`<folder>/<name>.png`, 16-bit grey: the probability of each pixel's class times 65535."""

    def write(self, prediction: MaskPrediction, path: Path, size: Size | None) -> None:
        """Write the confidence of one image's mask."""
        values = prediction.confidence.float().cpu().numpy() * 65535
        write_png(path, np.rint(values).astype(np.uint16))
