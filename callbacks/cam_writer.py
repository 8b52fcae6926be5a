"""Write CAMs in the interchange format, on request: `callbacks=cams`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.products import read_fingerprint
from fmawsss.files.storage import holds_cams
from fmawsss.records import Cams, Prediction


class CamWriter(L.Callback):
    """One file per image, `<folder>/<product>/<name>.npz` (docs/cams.md): CAMs and attention.

    The CAMs are those before refinement. `write` is `storage.write_cams`, or
    `storage.write_half_cams` for half the space. Each file carries the fingerprint of the `product`
    (the seeds), so that CAMs of other settings are made again, and the `recipe` of the stage.
    """

    def __init__(
        self,
        folder: str | Path,
        product: str | Path,
        write: Callable[[Path, Cams, str], None],
        recipe: str | None = None,
    ) -> None:
        self.folder = Path(folder) / Path(product).name
        self.fingerprint = read_fingerprint(Path(product))
        self.write = write
        self.recipe = recipe

    def has(self, name: str) -> bool:
        """Say whether the image is done: its file is there, whole, and made with these settings."""
        return holds_cams(self.folder / f"{name}.npz", self.fingerprint)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[Prediction] = outputs
        for prediction in predictions:
            cams = replace(prediction.kept_cams()["CAM"], recipe=self.recipe)
            self.write(self.folder / f"{prediction.name}.npz", cams, self.fingerprint)
