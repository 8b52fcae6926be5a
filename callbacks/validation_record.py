"""Keep the scores of every validation: the last and the best are both reported, and neither is taken for the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch

from callbacks.scores import remove_nan
from fmawsss.metrics import SegmentationScores
from fmawsss.storage import replace_file

KEPT = ("state_dict", "classes", "carried")


class ValidationRecord(L.Callback):
    """Append a line per validation beside the product: the optimiser step and all scores."""

    def __init__(self, product: str | Path) -> None:
        self.path = place_record(Path(product))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write down what the module found."""
        if trainer.is_global_zero:
            self.append(step=trainer.global_step, scores=remove_nan(pl_module.scores._asdict()))

    def append(self, **line: Any) -> None:
        """Write one line."""
        with self.path.open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")


class PowerRecord(ValidationRecord):
    """Append a line per validation and background power, for prompts."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write down what the module found with each power."""
        if trainer.is_global_zero:
            for power, scores in pl_module.scores.items():
                self.append(step=trainer.global_step, kind=f"power {power:g}", scores=remove_nan(scores._asdict()))


def place_record(product: Path) -> Path:
    """Name the record of a product's validations."""
    return product.with_name(f"{product.name}.validations.jsonl")


def read_validations(product: Path) -> dict[str, dict[int, SegmentationScores]]:
    """Read the scores by kind (a network's has no name) and step; one validated again after a resume counts once."""
    path = place_record(product)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found: dict[str, dict[int, SegmentationScores]] = {}
    for line in map(json.loads, lines):
        found.setdefault(line.get("kind", ""), {})[line["step"]] = SegmentationScores(**line["scores"])
    return found


def choose_reported(validations: dict[str, dict[int, SegmentationScores]]) -> dict[str, SegmentationScores]:
    """Name the last validation and the best one of each kind, the earlier of equals."""
    reported = {}
    for kind, found in validations.items():
        before = f"{kind}, " if kind else ""
        last, best = max(found), max(sorted(found), key=lambda step, found=found: found[step].miou)
        reported |= {f"{before}last, step {last}": found[last], f"{before}best, step {best}": found[best]}
    return reported


def keep_learned(path: str | Path, kept: Path) -> None:
    """Copy from a training checkpoint what applying it needs, as the stage's own product holds it."""
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    with replace_file(kept) as temporary:
        torch.save({key: checkpoint[key] for key in KEPT}, temporary)
