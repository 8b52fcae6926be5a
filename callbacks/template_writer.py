"""Rank hand-written templates: an answer per image, then the ranking of all."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

from fmawsss.files.json_files import write_json
from fmawsss.files.writing import append_line
from fmawsss.records import TemplateAnswer
from fmawsss.templates import rank_templates

logger = logging.getLogger(__name__)


class TemplateWriter(L.Callback):
    """Append a JSON line per image to `answers`, then write `ranking`: template → sharpness.

    The lowest sharpness comes first.
    """

    def __init__(self, answers: str | Path, ranking: str | Path, templates: Sequence[str]) -> None:
        self.answers = Path(answers)
        self.ranking = Path(ranking)
        self.templates = list(templates)
        self.known = read_answers(self.answers)

    def has(self, name: str) -> bool:
        """Say whether the image is done and the ranking written."""
        return name in self.known and self.ranking.is_file()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Append a line per image."""
        answers: list[TemplateAnswer] = outputs
        new = [answer for answer in answers if answer.name not in self.known]
        self.answers.parent.mkdir(parents=True, exist_ok=True)
        for a in new:
            line = json.dumps([a.name, a.logits.tolist()], ensure_ascii=False)
            append_line(self.answers, line)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rank the templates by the answers of all images."""
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return

        # Rank
        known = read_answers(self.answers)
        logits = [torch.tensor(known[name]) for name in sorted(known)]
        ranking = rank_templates(self.templates, logits)
        write_json(self.ranking, ranking)

        # Show
        table = Table("template", "sharpness", title=f"{self.ranking}")
        for text, sharpness in ranking.items():
            table.add_row(text, f"{sharpness:.4f}")
        wide = None if Console().is_terminal else 1000  # as wide as it needs
        Console(width=wide, markup=False, emoji=False).print(table)


def read_answers(path: Path) -> dict[str, list[list[float]]]:
    """Read the answers written so far; a line that a kill cut short is not one."""
    answers = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            name, logits = json.loads(line)
        except ValueError:
            logger.warning("%s: a broken line is left out, its image is asked again", path)
            continue
        answers[name] = logits
    return answers
