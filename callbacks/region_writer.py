"""Write what a region memory needs of every image, on request: `callbacks=regions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.products import RECORD_VERSION, read_fingerprint
from fmawsss.files.regions import read_stamp, write_regions
from fmawsss.files.storage import write_json
from fmawsss.memory import keep_regions
from fmawsss.records import SeedPrediction


class RegionWriter(L.Callback):
    """One file per image, `<folder>/<product>/<name>.npz`: keys, and what SAMS gave (METHOD 11.1).

    Each file carries the fingerprint of the `product` (the seeds).
    """

    def __init__(self, folder: str | Path, product: str | Path) -> None:
        self.product = Path(product)
        self.folder = Path(folder) / self.product.name
        self.fingerprint = read_fingerprint(self.product)

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return read_stamp(self.folder / f"{name}.npz") == self.fingerprint

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say beside the folder which seeds its files belong to, for what is made of them."""
        if trainer.is_global_zero:
            record = self.folder.with_name(f"{self.folder.name}.json")
            settings = {"version": RECORD_VERSION, "settings": {"of": str(self.product)}}
            content = {"fingerprint": self.fingerprint, "parts": {}, "upstream": {}}
            write_json(record, {**settings, **content})

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SeedPrediction] = outputs
        for prediction in predictions:
            if prediction.superpixels is None:
                raise ValueError(
                    "a memory explains superpixels, and there are none: make them with `python "
                    "infer.py task=superpixels`, or do without one, memory=none"
                )
            patches = None if prediction.patches is None else prediction.patches()
            grid = (prediction.cams.shape[1], prediction.cams.shape[2])
            regions = keep_regions(
                prediction.seeds["sams"], prediction.classes, prediction.superpixels, patches, grid
            )
            write_regions(self.folder / f"{prediction.name}.npz", regions, self.fingerprint)
