"""Write proposed labels as a table that a person can correct, and that is then read as labels."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import lightning as L

from lightning_modules.labels import LabelProposal

logger = logging.getLogger(__name__)

COLUMNS = ("name", "labels", "scores")


class LabelWriter(L.Callback):
    """Append a row per image to a CSV file: its name, its labels joined by semicolons, their probabilities.

    Rows that are there stay as they are, corrected or not.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.known = read_names(self.path)
        self.bare: list[str] = []

    def has(self, name: str) -> bool:
        """Say whether the image has a row."""
        return name in self.known

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Append the batch in one piece."""
        proposals: list[LabelProposal] = outputs
        rows = [
            (p.name, ";".join(p.scores), ";".join(f"{score:.3f}" for score in p.scores.values())) for p in proposals
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue() if file.tell() else ",".join(COLUMNS) + "\n" + text.getvalue())
        self.bare += [proposal.name for proposal in proposals if not proposal.scores]

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say where the labels are, and which images have none."""
        logger.info("proposed labels are in %s: correct them, then train with dataset/labels=zeroshot", self.path)
        if self.bare:
            logger.warning("%d images got no label, e.g. %s", len(self.bare), ", ".join(self.bare[:5]))


def read_names(path: Path) -> set[str]:
    """Read the names of the rows that a file holds."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row["name"] for row in csv.DictReader(file)}
