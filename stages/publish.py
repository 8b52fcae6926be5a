"""Publish what applying a stage gave: for reports, and for the dashboards of the run."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.mask_writer import MaskWriter
from callbacks.prediction_writer import PngWriter
from datamodules.choosing import name_splits
from stages.apply import Result
from stages.dashboards import publish_stage
from stages.exports.masks import MaskSet, check_exports, export_masks
from stages.reports.report import StageNote, find_sources, note_stage
from stages.stage import Stage


def publish(stage: Stage, result: Result, loggers: Sequence[Logger]) -> None:
    """Note the product for reports; show dashboards what was made now."""
    if rank_zero_only.rank != 0:
        return
    learned = stage.training is not None
    note = StageNote(
        name=f"{stage.name}{stage.run.others}",
        product=result.product.path,
        split=result.split,
        images=result.images,
        classes=("background", *stage.output.data.classes),
        sources=find_sources(stage.reads, None if learned else result.checkpoint),
        photos=stage.run.photos,
    )
    note_stage(stage.run.work, note)
    if result.made:
        products = [stage.checkpoint] if learned else []
        step = int(stage.config["training"]["loop"].get("max_steps") or 0)
        publish_stage(loggers, stage.run.work, note, result.scores, stage.config, products, step)


def check_export(stage: Stage) -> None:
    """Raise ValueError, before anything is made, for formats that the finished masks do not fit."""
    exports, writers = stage.output.exports, stage.output.make_writers([])
    drawn = [writer.folder for writer in writers if isinstance(writer, PngWriter | MaskWriter)]
    if exports and stage.output.path not in drawn:
        raise ValueError(
            f"save_as needs masks, but stage {stage.name} writes none to {stage.output.path}: use "
            "a task that writes masks (cls, seg, seeds, network)"
        )
    if exports:
        check_exports(exports, list_masks(stage))


def export(stage: Stage) -> None:
    """Write the finished masks of a stage in the formats of other tools that it names."""
    sharded = stage.run.shard is not None
    export_masks(stage.output.exports, list_masks(stage), stage.name, sharded)


def list_masks(stage: Stage) -> MaskSet:
    """List the masks that a stage writes."""
    output, data = stage.output, stage.output.data
    images = {record.name: record.image for record in data.read_records(data.whole.split)}
    split = "_".join(name_splits(data.whole.split))
    return MaskSet(output.path, images, data.classes, split)
