"""Write the objects that a text-prompted model found, on request: `callbacks=instances`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.instances import write_instances
from fmawsss.files.products import read_fingerprint
from fmawsss.files.regions import read_stamp
from fmawsss.text_prompted.instances import list_instances


class InstanceWriter(L.Callback):
    """One file per image, `<folder>/<product>/<name>.npz`: class, phrase, score, box and mask.

    Masks have the size that the image has on disk. Each file carries the fingerprint of the
    `product` (the seeds). `overlap`: of boxes of one class that overlap more, the surest stays.
    """

    def __init__(self, folder: str | Path, product: str | Path, overlap: float) -> None:
        self.folder = Path(folder) / Path(product).name
        self.fingerprint = read_fingerprint(Path(product))
        self.overlap = overlap

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return read_stamp(self.folder / f"{name}.npz") == self.fingerprint

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        sizes = batch.on_disk or batch.sizes
        for prediction, size in zip(outputs, sizes, strict=True):
            assert prediction.found is not None, "stage.runtime.arguments.keep_instances is off"
            found = list_instances(prediction.found, size, self.overlap)
            write_instances(self.folder / f"{prediction.name}.npz", found, self.fingerprint)
