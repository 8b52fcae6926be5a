"""Write how sure the seed of every image is, beside the seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from callbacks.prediction_writer import PngWriter
from fmawsss.files.png import write_png
from fmawsss.records import SeedPrediction
from fmawsss.resizing import Size, resize_mask


class SeedConfidenceWriter(PngWriter):
    """One grey PNG per image, `<folder>/<name>.png`, of the seed called `kind`."""

    def __init__(self, folder: str | Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    def write(self, prediction: SeedPrediction, path: Path, size: Size | None) -> None:
        """Write the confidence of one image's seed."""
        levels = encode_confidence(prediction.seeds[self.kind].confidence)
        write_png(path, resize_mask(levels, size))


def encode_confidence(confidence: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Round 0…1 to 0…255; only what no superpixel speaks for becomes 0.

    >>> encode_confidence(torch.tensor([[0.0, 0.001, 0.5, 1.0]])).tolist()
    [[0, 1, 128, 255]]
    """
    levels = torch.where(confidence > 0, (255 * confidence).round().clamp(1, 255), 0)
    return levels.to(torch.uint8).cpu().numpy()
