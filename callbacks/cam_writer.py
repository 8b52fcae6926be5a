"""Write refined CAMs in the interchange format, on request: `callbacks=cams`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.storage import write_cams
from lightning_modules.prompts import SeedPrediction


class CamWriter(L.Callback):
    """One file per image, `<folder>/<name>.npz`, with the CAMs and the class indices they belong to."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SeedPrediction] = outputs
        for prediction in predictions:
            path = self.folder / f"{prediction.name}.npz"
            write_cams(path, prediction.cams.cpu().numpy(), prediction.classes.cpu().numpy())
