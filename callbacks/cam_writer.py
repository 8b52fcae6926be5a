"""Write refined CAMs in the interchange format, on request: `callbacks=cams`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.products import read_fingerprint
from fmawsss.storage import Cams, write_cams
from lightning_modules.prompts import SeedPrediction


class CamWriter(L.Callback):
    """One file per image, `<folder>/<name>.npz`, with the CAMs and the class indices they belong to."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.fingerprint = read_fingerprint(self.folder)

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return (self.folder / f"{name}.npz").is_file()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SeedPrediction] = outputs
        for prediction in predictions:
            path = self.folder / f"{prediction.name}.npz"
            cams = Cams(prediction.cams.cpu(), prediction.classes.cpu(), attention=None)
            write_cams(path, cams, self.fingerprint)
