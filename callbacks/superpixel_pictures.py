"""A picture for every N-th image: the image, its superpixels, and the same by level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.png import write_png
from fmawsss.records import Batch, SuperpixelPrediction
from fmawsss.viz import colour_levels, colour_superpixels, draw_panel

PICTURE_SIDE = 320  # of a picture in the panel, in pixels


class SuperpixelPictures(L.Callback):
    """Write `<folder>/<name>.png` for the first of all images and every `every`-th after."""

    def __init__(self, folder: str | Path, every: int, names: Sequence[str]) -> None:
        if every < 1:
            raise ValueError(
                f"writers.pictures.every={every}: expected 1 for every image, 100 for every "
                "hundredth"
            )
        self.folder = Path(folder)
        self.chosen = set(names[::every])

    def has(self, name: str) -> bool:
        """Pictures hold up nothing: an image without one counts as done."""
        return True

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw the images whose turn it is."""
        predictions: list[SuperpixelPrediction] = outputs
        for image, prediction in zip(batch.originals, predictions, strict=True):
            if prediction.name in self.chosen:
                found = prediction.superpixels
                row = [
                    (prediction.name, image),
                    (f"{len(found)} superpixels", colour_superpixels(found, PICTURE_SIDE)),
                    (
                        "wholes blue, parts teal, subparts yellow",
                        colour_levels(found, PICTURE_SIDE),
                    ),
                ]
                write_png(self.folder / f"{prediction.name}.png", draw_panel([row], PICTURE_SIDE))
