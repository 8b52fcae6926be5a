"""Apply a stage: make its product for each image that lacks it; score it where truth is known."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from callbacks.behind import Behind
from callbacks.record_keeper import RecordKeeper
from callbacks.score_journal import ScoreJournal
from datamodules.loading import find_place
from datamodules.shard import choose_shard
from fmawsss.files.contents import drop_notes, note_files
from fmawsss.files.journals import list_journals, refuse_changed
from fmawsss.files.json_files import many_objects
from fmawsss.files.listing import current
from fmawsss.files.locks import wait_lock
from fmawsss.files.products import ANY, Product, refuse_inner
from fmawsss.files.texts import name_first
from fmawsss.metrics import SegmentationMetrics
from fmawsss.records import ImageRecord
from lightning_modules.learned import load_fitting
from stages.checkpoints import find_checkpoint
from stages.scores import enter_scores
from stages.stage import Stage, describe_inputs, forget_failure, start_product

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What applying a stage gave: a split of its product, the parts scored, and their scores.

    made: how many images were made now.
    """

    product: Product
    split: str
    images: int
    checkpoint: Path | None
    scores: dict[str, dict[str, SegmentationMetrics]]
    made: int


def apply(stage: Stage) -> Result:
    """Make the stage's product for each image of the split that lacks it."""
    output, data = stage.output, stage.output.data
    checkpoint = find_checkpoint(stage) if stage.learns else None
    product = stage.describe_output(checkpoint)

    # Complete and current, or begun: the record beside the product says
    split, inputs = describe_inputs(data, data.whole.split)
    picture = stage.run.work / "pictures" / f"{product.path.name}.png"
    shard = choose_shard(stage.run.shard, stage.run.overwrite, product.path)
    beside = [picture, picture.with_suffix(""), *list_journals(product.path)]
    inputs = ANY if output.grows else inputs
    overwrite, editable = stage.run.overwrite, output.keeps_changed
    start_product(product, split, inputs, overwrite, beside, editable)

    # The images that lack something
    records = data.read_records(data.whole.split)
    refuse_inner(product.path, [record.name for record in records])
    parts = data.list_parts(split, output.also_scored)
    writers = list_writers(stage, records, shard.number)
    remaining = find_remaining(stage, records, shard.choose(parts[split]), writers)

    # Make them
    if product.is_complete(split) and not remaining:
        logger.info("%s: %s is complete for %s, skipped", stage.name, product.path, split)
    else:
        keeper = RecordKeeper(product, split, inputs, beside)
        with forget_failure(product, split, lambda: has_any(stage, records)):
            if rank_zero_only.rank == 0:
                with wait_lock(product.record_path):
                    drop_notes(product.path, {record.name for record in remaining})
            trainer = make_images(stage, checkpoint, [keeper, *writers], remaining)
            require_made(stage, remaining, shard.number)
        if trainer.is_global_zero:
            finish(stage, product, split, records, shard.is_whole)

    # Score them
    scores = {}
    if rank_zero_only.rank == 0:
        table, name = stage.run.work / "scores.json", f"{stage.name}{stage.run.others}"
        scores = enter_scores(table, name, product.path, parts, data.classes)
    return Result(product, split, len(records), checkpoint, scores, len(remaining))


@many_objects()
def list_writers(stage: Stage, records: Sequence[ImageRecord], shard: int) -> list[L.Callback]:
    """List what writes the product, what goes beside it, and the journal of this shard."""
    if not stage.output.data.whole.truths:
        records = [record.without_truth() for record in records]
    writers = stage.output.make_writers([record.name for record in records])
    return [*writers, ScoreJournal(stage.output.path, records, shard)]


def find_remaining(
    stage: Stage,
    records: Sequence[ImageRecord],
    mine: Container[str],
    writers: Sequence[L.Callback],
) -> list[ImageRecord]:
    """List those of `mine` that lack something; refuse files that changed since they were done."""
    remaining = [r for r in records if r.name in mine and not has_all(writers, r.name)]
    if stage.output.grows and not stage.output.keeps_changed:
        left = {record.name for record in remaining}
        refuse_changed(stage.output.path, [r for r in records if r.name not in left])
    return remaining


def has_all(writers: Sequence[L.Callback], name: str) -> bool:
    """Say whether everything of an image is there."""
    return all(writer.has(name) for writer in writers)


def has_any(stage: Stage, records: Sequence[ImageRecord]) -> bool:
    """Say whether everything of any image is there, whoever made it."""
    writers = list_writers(stage, records, 1)
    return any(has_all(writers, record.name) for record in records)


def make_images(
    stage: Stage,
    checkpoint: Path | None,
    writers: Sequence[L.Callback],
    remaining: Sequence[ImageRecord],
) -> L.Trainer:
    """Apply the module to images, each process to its share, and wait for all of them."""
    stage.output.data.setup("predict")
    if checkpoint is not None:
        load_fitting(checkpoint, stage.module)
    trainer = stage.run.build_trainer(stage.name, "apply", [Behind(writers)], {"logger": False})
    place = find_place(trainer)
    loader = stage.output.data.whole_loader(remaining, place.rank, place.world_size, place.pin)
    trainer.predict(stage.module, loader, return_predictions=False)
    trainer.strategy.barrier()
    current().forget()
    return trainer


def require_made(stage: Stage, records: Sequence[ImageRecord], shard: int) -> None:
    """Raise RuntimeError unless what was to be made of images is there."""
    writers = list_writers(stage, records, shard)
    missing = [record.name for record in records if not has_all(writers, record.name)]
    if missing:
        raise RuntimeError(
            f"{stage.name}: {len(missing)} of {len(records)} images left no file in "
            f"{stage.output.path}: {name_first(missing)}; the product is not complete, run the "
            "same command again"
        )


def finish(
    stage: Stage, product: Product, split: str, records: Sequence[ImageRecord], whole: bool
) -> None:
    """Record the product as complete, if the other shards are."""
    if whole or is_whole(stage, records):
        with wait_lock(product.record_path):
            if not stage.output.keeps_changed:
                note_files(product.path, {record.name for record in records})
            product.finish(split)
    else:
        logger.info("%s: this shard is complete, others are not yet", stage.name)


def is_whole(stage: Stage, records: Sequence[ImageRecord]) -> bool:
    """Say whether all shards together made everything."""
    writers = list_writers(stage, records, 1)
    return all(has_all(writers, record.name) for record in records)
