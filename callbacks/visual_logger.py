"""A picture per stage that a person can look at: some images of the split beside what the stage
made of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from jaxtyping import UInt8

from fmawsss.files.products import read_fingerprint
from fmawsss.files.storage import write_half_cams, write_png
from fmawsss.records import Batch, Cams
from fmawsss.scores import resize_maps
from fmawsss.viz import (
    colour_levels,
    colour_superpixels,
    draw_legend,
    draw_panel,
    make_palette,
    overlay_heatmap,
    overlay_mask,
)
from lightning_modules.labels import LabelProposal
from lightning_modules.network import MaskPrediction
from lightning_modules.prompts import SeedPrediction
from lightning_modules.superpixels import SuperpixelPrediction

Picture = UInt8[np.ndarray, "H W 3"]
SIDE = 160  # of a picture in the panel, in pixels
Row = list[tuple[str, Picture]]


class VisualLogger(L.Callback):
    """Write `<folder>/<product>.png`, a row for each of the first `images` images of the product.

    Their CAMs are kept beside it, before and after refinement: `<folder>/<product>/CAM/<name>.npz`
        and `refined CAM/`.
    """

    def __init__(self, folder: str | Path, product: str | Path, images: int) -> None:
        self.path = Path(folder) / f"{Path(product).name}.png"
        self.fingerprint = read_fingerprint(Path(product))
        self.images = images
        self.rows: list[Row] = []
        self.palette = make_palette(256)

    def has(self, name: str) -> bool:
        """Pictures hold up nothing: an image without one counts as done."""
        return True

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw the rows of the batch until there are enough."""
        for index, prediction in enumerate(outputs):
            if len(self.rows) < self.images:
                self._keep_cams(prediction)
                image = batch.originals[index]
                truth = self._draw_truth(batch, index, image)
                self.rows.append(
                    [
                        (prediction.name, image),
                        *self._draw(prediction, pl_module.classes, image),
                        *truth,
                    ]
                )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the picture, on the first process; one that shows more stays."""
        full = len(self.rows) == self.images
        if not self.rows or not trainer.is_global_zero or (self.path.exists() and not full):
            return
        panel = draw_panel(self.rows, SIDE)
        legend = draw_legend(("background", *pl_module.classes), self.palette, panel.shape[1])
        write_png(self.path, np.concatenate([panel, legend]))

    def _keep_cams(self, prediction: Any) -> None:
        if isinstance(prediction, SeedPrediction):
            for kind, maps in (("CAM", prediction.cams), ("refined CAM", prediction.refined)):
                path = self.path.with_suffix("") / kind / f"{prediction.name}.npz"
                if not path.is_file():
                    write_half_cams(
                        path, Cams(maps.cpu(), prediction.classes.cpu(), None), self.fingerprint
                    )

    def _draw_truth(self, batch: Batch, index: int, image: Picture) -> Row:
        if batch.truths is None:
            return []
        return [
            (
                "truth",
                overlay_mask(image, batch.truths[index].cpu().numpy(), self.palette, alpha=0.6),
            )
        ]

    def _draw(self, prediction: Any, classes: tuple[str, ...], image: Picture) -> Row:
        if isinstance(prediction, SuperpixelPrediction):
            superpixels = prediction.superpixels
            return [
                ("superpixels", colour_superpixels(superpixels, SIDE)),
                ("levels", colour_levels(superpixels, SIDE)),
            ]
        if isinstance(prediction, LabelProposal):
            return [(prediction.describe(), image)]
        if isinstance(prediction, SeedPrediction):
            return self._draw_seeds(prediction, classes, image)
        assert isinstance(prediction, MaskPrediction)
        return [
            ("network", overlay_mask(image, prediction.mask.cpu().numpy(), self.palette, alpha=0.6))
        ]

    def _draw_seeds(
        self, prediction: SeedPrediction, classes: tuple[str, ...], image: Picture
    ) -> Row:
        """Draw CAM and refined CAM of the first present class, then the seeds of each step."""
        row: Row = []
        if len(prediction.classes):
            name = classes[int(prediction.classes[0])]
            for caption, maps in (
                (f"CAM {name}", prediction.cams),
                ("+ affinity", prediction.refined),
            ):
                heat = resize_maps(maps[:1], image.shape[:2])[0]
                row.append(
                    (caption, overlay_heatmap(image, heat.clamp_min(0).cpu().numpy(), alpha=0.7))
                )
        masks = prediction.masks().items()
        return row + [
            (kind, overlay_mask(image, mask.cpu().numpy(), self.palette, alpha=0.6))
            for kind, mask in masks
        ]
