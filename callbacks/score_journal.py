"""What was counted of each image, in lines beside a product, so that a killed run loses nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from fmawsss.files.journals import count_errors, describe_record, place_journal, read_journals
from fmawsss.files.listing import stamp_files
from fmawsss.files.writing import append_line
from fmawsss.records import Batch, ImageRecord, Prediction


class ScoreJournal(L.Callback):
    """Append a line per batch: an image's confusion by kind of mask, where it lies, its own facts.

    The journal lies beside the product, one file per process. A broken last line (a killed run) is
    not counted, and its batch is done again as a whole: the last digits of an image depend on those
    that are computed with it. An image whose ground truth changed since is done again, too.
    `records` are the images of the product, with their truth where truths are read. Nothing is ever
    chosen by these numbers.
    """

    def __init__(self, product: str | Path, records: Sequence[ImageRecord], shard: int = 1) -> None:
        self.product = Path(product)
        self.shard = shard
        self.records = {record.name: record for record in records}
        known = [(record.name, record.truth_file) for record in records if record.truth_file]
        stamps = map(str, stamp_files([truth for _, truth in known]))
        self.stamps = {name: stamp for (name, _), stamp in zip(known, stamps, strict=True)}
        self.known = read_journals(self.product).truths

    def has(self, name: str) -> bool:
        """Say whether the image was counted before, against the truth that there is now."""
        return name in self.known and self.known[name] == self.stamps.get(name)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch."""
        classes = len(pl_module.classes) + 1
        truths = batch.truths if batch.truths is not None else [None] * len(outputs)
        path = place_journal(self.product, self.shard, trainer.global_rank)
        lines = [
            count_errors(prediction, truth, classes) | self._describe(prediction)
            for prediction, truth in zip(outputs, truths, strict=True)
        ]
        append_line(path, json.dumps(lines))

    def _describe(self, prediction: Prediction) -> dict[str, Any]:
        """Describe an image by what is known of it and predicted, apart from pixel counts."""
        record = self.records.get(prediction.name)
        known = {} if record is None else describe_record(record)
        stamp = self.stamps.get(prediction.name)
        return {**known, "truth_stamp": stamp, **prediction.facts()}
