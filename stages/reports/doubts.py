"""The table of doubtful labels beside a report, for a person to mark: `doubtful_labels.csv`."""

from __future__ import annotations

import logging
from pathlib import Path

from datamodules.label_corrections import LISTED, MISSING
from fmawsss.files.texts import read_table, write_row
from fmawsss.files.writing import write_bytes
from stages.reports.image_ranks import Suspicion
from stages.reports.report import StageNote

logger = logging.getLogger(__name__)

DOUBTS_FILE = "doubtful_labels.csv"
COLUMNS = ("image", "class", "label", "strength", "evidence", "correct")
Key = tuple[str, str, str]  # image, class, and whether it is listed or missing


class DoubtTable:
    """The doubtful labels of images, of all stages, as a report comes by them."""

    def __init__(self) -> None:
        self.rows: dict[Key, tuple[float, str]] = {}

    def enter(self, stage: StageNote, suspicion: Suspicion) -> None:
        """Enter what a stage doubts of an image; of several stages the strongest doubt counts."""
        for doubt in suspicion.doubts:
            said = LISTED if doubt.listed else MISSING
            key = (suspicion.line["name"], stage.classes[doubt.value], said)
            evidence = (doubt.strength, f"{stage.name}: {doubt.reason}")
            self.rows[key] = max(self.rows.get(key, evidence), evidence)

    def write(self, path: Path) -> None:
        """Write them, the most doubtful first; nothing where there is none.

        What a person has marked in a table that is there stays marked, doubtful or not.
        """
        marks = read_marks(path)
        rows = self.rows | {key: (0.0, "") for key in marks if key not in self.rows}
        if not rows:
            return
        ordered = sorted(rows, key=lambda key: (-rows[key][0], key))
        lines = [
            write_row([*key, f"{rows[key][0]:.3f}", rows[key][1], marks.get(key, "")])
            for key in ordered
        ]
        text = "".join([write_row(COLUMNS), *lines])
        if not path.is_file() or path.read_bytes() != text.encode():
            write_bytes(path, text.encode())
            logger.info("doubtful labels (%d), to be marked: %s", len(rows), path)


def read_marks(path: Path) -> dict[Key, str]:
    """Read what a person has marked."""
    if not path.is_file():
        return {}
    table = read_table(path, ("image", "class", "label", "correct"))
    cells = [row for _, row, _ in table.read_rows()]
    return {
        (row["image"], row["class"], row["label"]): row["correct"]
        for row in cells
        if row["correct"].strip()
    }
