"""A picture per stage for people: some images of the split beside what the stage made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from fmawsss.files.images import read_image
from fmawsss.files.png import write_png
from fmawsss.files.products import read_fingerprint
from fmawsss.files.storage import write_half_cams
from fmawsss.records import Batch, Captioned, Palette, Prediction
from fmawsss.resizing import Picture, resize_mask
from fmawsss.viz import (
    PANEL_SIDE,
    choose_colours,
    draw_legend,
    draw_panel,
    overlay_mask,
    stack_panels,
)


class VisualLogger(L.Callback):
    """Write `<folder>/<product>.png`, a row for each of the first `images` images of the product.

    Rows lie beside it, `<folder>/<product>/rows/<name>.png`, and the sheet is put together from
    those that are there: which images it shows does not depend on where a run was stopped. The CAMs
    of these images are kept, too, by kind: `<folder>/<product>/CAM/<name>.npz`, `refined CAM/`.
    """

    def __init__(
        self, folder: str | Path, product: str | Path, images: int, names: Sequence[str]
    ) -> None:
        self.path = Path(folder) / f"{Path(product).name}.png"
        self.fingerprint = read_fingerprint(Path(product))
        rows = self.path.with_suffix("") / "rows"
        self.rows = {name: rows / f"{name}.png" for name in names[:images]}

    def has(self, name: str) -> bool:
        """Pictures hold up nothing: an image without one counts as done."""
        return True

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw the rows of the batch, and the sheet anew."""
        predictions: list[Prediction] = outputs
        palette = choose_colours(len(pl_module.classes))
        shown = any(prediction.name in self.rows for prediction in predictions)
        for index, prediction in enumerate(predictions):
            if prediction.name in self.rows:
                self._keep_cams(prediction)
                image = batch.originals[index]
                drawn = prediction.draw(image, pl_module.classes, palette)
                truth = self._draw_truth(batch, index, image, palette)
                row = [(prediction.name, image), *drawn, *truth]
                write_png(self.rows[prediction.name], draw_panel([row], PANEL_SIDE))
        if shown:
            self._draw_sheet(pl_module.classes, palette)

    def _draw_sheet(self, classes: Sequence[str], palette: Palette) -> None:
        """Put the rows that are there on one sheet, above the names of the classes."""
        rows = [read_image(path) for path in self.rows.values() if path.is_file()]
        panel = stack_panels(rows)
        legend = draw_legend(("background", *classes), palette, panel.shape[1])
        write_png(self.path, np.concatenate([panel, legend]))

    def _keep_cams(self, prediction: Prediction) -> None:
        """Keep the CAMs of an image, without the attention, unless they are there."""
        for kind, cams in prediction.kept_cams().items():
            path = self.path.with_suffix("") / kind / f"{prediction.name}.npz"
            if not path.is_file():
                write_half_cams(path, replace(cams, attention=None), self.fingerprint)

    def _draw_truth(
        self, batch: Batch, index: int, image: Picture, palette: Palette
    ) -> list[Captioned]:
        """Lay the ground truth over the image, where it is read."""
        truth = batch.truths[index] if batch.truths is not None else None
        if truth is None:
            return []
        mask = resize_mask(truth.cpu().numpy(), image.shape[:2])
        return [("truth", overlay_mask(image, mask, palette, alpha=0.6))]
