"""Check that what earlier stages made of images is there, before a stage looks at them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from datamodules.choosing import check_products, check_superpixels
from datamodules.given_cams import check_cams
from datamodules.shown import require_shown
from datamodules.views import TrainingView, WholeView
from fmawsss.files.corrected import open_corrected
from fmawsss.records import ImageRecord

logger = logging.getLogger(__name__)

MAKE_SEEDS = (
    "run what makes them (`python train.py task=cls` or `task=seg`, seeds of a memory `python "
    "infer.py task=memory`), or name another folder"
)
MAKE_CONFIDENCE = "write them with callbacks=seed_confidence (task=seg or memory), or targets=hard"
MAKE_REGIONS = (
    "write them with callbacks=regions (`python infer.py task=cls callbacks=regions`), those of a "
    "text-prompted source with `python infer.py task=text evidence=sam3 memory=regions`"
)


def check_training_view(
    records: Sequence[ImageRecord], view: TrainingView, classes: Sequence[str]
) -> None:
    """Check that every image has the seeds, confidence and superpixels that a view reads.

    What people have corrected must be of these classes.
    """
    for folder, what, remedy in (
        (view.seeds, "seeds", MAKE_SEEDS),
        (view.confidence, "confidences", MAKE_CONFIDENCE),
    ):
        if folder is not None:
            check_products(records, Path(folder), ".png", what, remedy)
    if view.superpixels is not None:
        check_superpixels(records, Path(view.superpixels), view.longest)
    if view.seeds is not None:
        require_shown(records, Path(view.seeds), len(classes))
    if view.corrected is not None:
        trusted = open_corrected(Path(view.corrected), classes)
        count = sum(record.name in trusted for record in records)
        logger.info("%d of %d images to learn from are corrected by hand", count, len(records))


def check_view(records: Sequence[ImageRecord], view: WholeView) -> None:
    """Check that every image has the superpixels, CAMs and regions that a view reads."""
    if view.superpixels is not None:
        check_superpixels(records, Path(view.superpixels), view.longest)
    if view.cams is not None:
        known = [record for record in records if record.name not in view.bare]
        check_cams(known, Path(view.cams), view.cams_of)
    kept = {"regions": view.regions, "keys of regions": view.keys, "other regions": view.averaged}
    for what, regions in kept.items():
        if regions is not None:
            check_products(records, Path(regions), ".npz", what, MAKE_REGIONS)
