"""Write proposed labels as a table that a person can correct, and that is then read as labels."""

from __future__ import annotations

import errno
import io
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import lightning as L

from fmawsss.files.texts import Table, read_table, write_row
from fmawsss.files.writing import name_folder
from fmawsss.records import LabelProposal

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("name", "labels", "scores")


class LabelWriter(L.Callback):
    """Append a row per image to a CSV file: its name, its labels, their probabilities.

    Rows that are there stay as they are, corrected or not, as do the columns and their delimiter.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        begun = self.path.is_file() and self.path.stat().st_size
        self.table = (
            read_table(self.path, LABEL_COLUMNS[:2]) if begun else Table(LABEL_COLUMNS, ",")
        )
        self.known = {row["name"] for _, row, _ in self.table.read_rows()}
        self.bare: list[str] = []

    def has(self, name: str) -> bool:
        """Say whether the image has a row."""
        return name in self.known

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Append the batch in one piece."""
        proposals: list[LabelProposal] = outputs
        text = self._write_rows([p for p in proposals if p.name not in self.known])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            append_rows(self.path, text)
        self.bare += [proposal.name for proposal in proposals if not proposal.probabilities]

    def _write_rows(self, proposals: list[LabelProposal]) -> str:
        """Write the rows of images, with the columns of the file.

        Labels and probabilities are joined by semicolons.
        """
        text = ""
        for proposal in proposals:
            values = ";".join(f"{value:.3f}" for value in proposal.probabilities.values())
            labels = ";".join(proposal.probabilities)
            cells = {"name": proposal.name, "labels": labels, "scores": values}
            row = [cells.get(column, "") for column in self.table.columns]
            text += write_row(row, self.table.delimiter)
        return text

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say where the labels are, and which images have none."""
        logger.info(
            "proposed labels are in %s: correct them, then train with dataset/labels=zeroshot",
            self.path,
        )
        if self.bare:
            logger.warning(
                "%d images got no label, e.g. %s", len(self.bare), ", ".join(self.bare[:5])
            )


def append_rows(path: Path, text: str) -> None:
    """Append rows, all or, on a disk that is full, none.

    Raises:
        OSError: naming the folder, when it is full or may not be written.
    """
    with name_folder(path.parent), path.open("a+b", buffering=0) as file:
        start = find_start(file)
        end = file.tell()
        rows = (start + text).encode()
        if file.write(rows) < len(rows):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def find_start(file: BinaryIO) -> str:
    """Return what belongs before a new row: the head, or the line end that an editor left out."""
    if file.seek(0, io.SEEK_END) == 0:
        return ",".join(LABEL_COLUMNS) + "\n"
    file.seek(-1, io.SEEK_END)
    return "" if file.read(1) in b"\r\n" else "\n"
