"""Write the seed of every image as a palette PNG, and count what fell back."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning as L

from callbacks.prediction_writer import PngWriter
from fmawsss.files.png import write_palette_png
from fmawsss.files.texts import name_first
from fmawsss.metrics import IGNORE
from fmawsss.records import SeedPrediction
from fmawsss.resizing import Size, resize_mask
from fmawsss.viz import make_palette

logger = logging.getLogger(__name__)

KINDS = ("sams", "memory", "text", "caa", "cam")


class SeedWriter(PngWriter):
    """One PNG per image, `<folder>/<name>.png`: the seed called `kind`; `sams` needs `superpixels`.

    Raises:
        ValueError: for a kind that no image will have.
    """

    def __init__(self, folder: str | Path, kind: str, superpixels: str | Path | None) -> None:
        super().__init__(folder)
        if kind not in KINDS:
            raise ValueError(
                f"there are no seeds of kind {kind!r}: set writers.seeds.kind to one of "
                f"{', '.join(KINDS)}"
            )
        if kind == "sams" and superpixels is None:
            raise ValueError(
                "there are no seeds of kind 'sams' without superpixels; set writers.seeds.kind=caa"
            )
        self.kind = kind
        self.palette = make_palette(256)
        self.fallbacks: list[str] = []
        self.bare: list[str] = []  # labelled, but all background or undecided

    def write(self, prediction: SeedPrediction, path: Path, size: Size | None) -> None:
        """Write the seed of one image."""
        seed = prediction.seeds[self.kind]
        write_palette_png(path, resize_mask(seed.labels.cpu().numpy(), size), self.palette)
        shows = ((seed.labels > 0) & (seed.labels != IGNORE)).any()
        if len(prediction.classes) and not shows:
            self.bare.append(prediction.name)
        if seed.fell_back:
            self.fallbacks.append(prediction.name)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say which images had no superpixels, and which seeds show none of the image's classes."""
        if self.bare:
            logger.warning(
                "the seeds of %d labelled images show no class, all is background or undecided: "
                "%s; look at their CAMs",
                len(self.bare),
                name_first(self.bare),
            )
        if self.fallbacks:
            logger.warning(
                "%d images without superpixels were seeded from their CAMs, e.g. %s",
                len(self.fallbacks),
                ", ".join(self.fallbacks[:5]),
            )
