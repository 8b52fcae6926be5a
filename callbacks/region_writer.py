"""Write what a region memory needs of every image, on request: `callbacks=regions`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.json_files import write_json
from fmawsss.files.products import RECORD_VERSION, read_fingerprint, read_record
from fmawsss.files.regions import read_stamp, write_regions
from fmawsss.memory import keep_regions
from fmawsss.records import SeedPrediction


class RegionWriter(L.Callback):
    """One file per image, `<folder>/<product>/<name>.npz`: keys, and what SAMS gave (METHOD 11.1).

    Each file carries the fingerprint of the `product` (the seeds) and the name of its `keys`, if
    they are not the usual ones. Without superpixels there is nothing to write.
    """

    def __init__(
        self,
        folder: str | Path,
        product: str | Path,
        superpixels: str | Path | None,
        keys: str | None = None,
    ) -> None:
        self.product = Path(product)
        self.needed = superpixels is not None
        self.folder = Path(folder) / self.product.name
        made_of = read_fingerprint(self.product)
        self.fingerprint = made_of if keys is None else f"{made_of} {keys}"

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return not self.needed or read_stamp(self.folder / f"{name}.npz") == self.fingerprint

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say beside the folder which seeds its files belong to, for what is made of them."""
        if trainer.is_global_zero and self.needed:
            record = self.folder.with_name(f"{self.folder.name}.json")
            of = os.path.relpath(self.product, self.folder)  # both may move
            settings = {"version": RECORD_VERSION, "settings": {"of": of}}
            made_from = (read_record(self.product) or {}).get("upstream", {})
            content = {"fingerprint": self.fingerprint, "parts": {}, "upstream": made_from}
            write_json(record, {**settings, **content})

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write what is missing of the batch: what is there may have been explained already."""
        predictions: list[SeedPrediction] = outputs
        for prediction in predictions:
            if self.has(prediction.name):
                continue
            assert prediction.superpixels is not None
            patches = None if prediction.patches is None else prediction.patches()
            grid = (prediction.cams.shape[1], prediction.cams.shape[2])
            regions = keep_regions(
                prediction.seeds["sams"], prediction.classes, prediction.superpixels, patches, grid
            )
            write_regions(self.folder / f"{prediction.name}.npz", regions, self.fingerprint)
