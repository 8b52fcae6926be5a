"""Keep the metrics of every validation: the last and the best are both reported, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch

from fmawsss.files.journals import Line, count_errors
from fmawsss.files.tallies import detail_lines, remove_nan
from fmawsss.files.writing import append_line, write_bytes, write_tensors
from fmawsss.metrics import SegmentationMetrics

# of a training checkpoint, in the checkpoint of the best step
KEPT = ("state_dict", "version", "classes", "palette", "carried", "config")


class Validation(NamedTuple):
    """What one validation found: metrics, and the details that a journal would sum up to."""

    scores: SegmentationMetrics
    details: dict[str, Any]


class ValidationRecord(L.Callback):
    """Append a line per validation beside the product: optimiser step, metrics, details."""

    def __init__(self, product: str | Path) -> None:
        self.path = place_record(Path(product))
        self.lines: list[Line] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the images of the validation before."""
        self.lines = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch."""
        classes = len(pl_module.classes) + 1
        pairs = zip(outputs, batch.truths, strict=True)
        self.lines += [count_errors(prediction, truth, classes) for prediction, truth in pairs]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write down what the module found."""
        lines = gather_lines(self.lines)
        if trainer.is_global_zero:
            (details,) = detail_lines(lines, pl_module.classes).values()
            found = remove_nan({"scores": pl_module.scores._asdict(), "details": details})
            append_line(self.path, json.dumps({"step": trainer.global_step, **found}))


class PowerRecord(L.Callback):
    """Append a line per validation and background power, for prompts: optimiser step, metrics."""

    def __init__(self, product: str | Path) -> None:
        self.path = place_record(Path(product))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write down what the module found with each power."""
        if trainer.is_global_zero:
            for power, scores in pl_module.scores.items():
                found = remove_nan(scores._asdict())
                line = {"step": trainer.global_step, "kind": f"power {power:g}", "scores": found}
                append_line(self.path, json.dumps(line))


def gather_lines(lines: list[Line]) -> list[Line]:
    """Return the lines of all processes."""
    if not torch.distributed.is_initialized():
        return lines
    parts: list[list[Line]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, lines)
    return [line for part in parts for line in part]


def place_record(product: Path) -> Path:
    """Name the record of a product's validations."""
    return product.with_name(f"{product.name}.validations.jsonl")


def read_validations(product: Path) -> dict[str, dict[int, Validation]]:
    """Read validations by kind (a network's has no name) and step.

    Raises:
        ValueError: naming the file, when a whole line of it is broken.
    """
    found: dict[str, dict[int, Validation]] = {}
    for line in read_record(place_record(product)):
        validation = Validation(SegmentationMetrics(**line["scores"]), line.get("details", {}))
        found.setdefault(line.get("kind", ""), {})[line["step"]] = validation
    return found


def read_record(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a record; the last one may have been cut off by a kill."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        return [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise ValueError(
            f"{path} is broken ({error}): add overwrite=true to train again, or take the broken "
            "line out to do without this validation"
        ) from error


def drop_validations(product: Path, step: int) -> None:
    """Drop the validations from a step on: a training that goes on from there does them again."""
    path = place_record(product)
    lines = read_record(path)
    kept = [line for line in lines if line["step"] < step]
    if len(kept) < len(lines):
        write_bytes(path, "".join(f"{json.dumps(line)}\n" for line in kept).encode())


def choose_reported(validations: dict[str, dict[int, Validation]]) -> dict[str, Validation]:
    """Name the last validation and the best one of each kind, the earlier of equals."""
    reported = {}
    for kind, found in validations.items():
        before = f"{kind}, " if kind else ""
        mious = {step: found[step].scores.miou for step in sorted(found)}
        last, best = max(mious), max(mious, key=mious.__getitem__)
        reported[f"{before}last, step {last}"] = found[last]
        reported[f"{before}best, step {best}"] = found[best]
    return reported


def keep_learned(path: str | Path, kept: Path) -> None:
    """Copy from a training checkpoint what applying it needs, as the final checkpoint does."""
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    write_tensors(kept, {key: checkpoint[key] for key in KEPT})
