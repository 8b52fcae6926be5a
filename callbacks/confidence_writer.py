"""Write how sure the seed of every image is, beside the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from fmawsss.storage import replace_file
from lightning_modules.prompts import SeedPrediction


class SeedConfidenceWriter(L.Callback):
    """One grey PNG per image, `<folder>/<name>.png`, of the seed called `kind`."""

    def __init__(self, folder: str | Path, kind: str) -> None:
        self.folder = Path(folder)
        self.kind = kind

    def has(self, name: str) -> bool:
        """Say whether the image is done."""
        return (self.folder / f"{name}.png").is_file()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write the batch."""
        predictions: list[SeedPrediction] = outputs
        for prediction in predictions:
            picture = Image.fromarray(encode_confidence(prediction.seeds[self.kind].confidence))
            with replace_file(self.folder / f"{prediction.name}.png") as temporary:
                picture.save(temporary, format="png", compress_level=3)


def encode_confidence(confidence: Float[Tensor, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Round 0…1 to 0…255; only what no superpixel speaks for becomes 0.

    >>> encode_confidence(torch.tensor([[0.0, 0.001, 0.5, 1.0]])).tolist()
    [[0, 1, 128, 255]]
    """
    levels = torch.where(confidence > 0, (255 * confidence).round().clamp(1, 255), 0)
    return levels.to(torch.uint8).cpu().numpy()
