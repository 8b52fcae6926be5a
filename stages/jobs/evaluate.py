"""Score a folder of masks of any origin: `python infer.py task=evaluate pred=DIR dataset=voc`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from datamodules.base import SegmentationDataModule
from datamodules.batches import check_mask
from datamodules.choosing import (
    Records,
    Splits,
    check_all_truths,
    name_splits,
    report_missing_truths,
)
from datamodules.file_checks import check_mask_size
from datamodules.images import index_masks
from datamodules.loading import find_start_context
from fmawsss.files.journals import Line, count_errors
from fmawsss.files.png import read_mask
from fmawsss.files.tallies import detail_tally, score_tally, tally_lines
from fmawsss.files.texts import compose, name_first
from fmawsss.metrics import SegmentationMetrics
from fmawsss.records import ImageRecord, Prediction
from stages.scores import print_scores, write_percent, write_scores

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 64  # images that a process takes at once


@dataclass(frozen=True, eq=False)
class GivenMask(Prediction):
    """A mask from a file, 0 for the background, else class index + 1."""

    name: str
    mask: Tensor

    def masks(self) -> dict[str, Tensor]:
        """Return the mask."""
        return {"masks": self.mask}


def evaluate_masks(
    data: SegmentationDataModule,
    splits: Splits,
    pred: Path | str,
    table: Path | str,
    workers: int | None,
) -> dict[str, SegmentationMetrics]:
    """Score the masks `<name>.png` of a folder against the truths of splits, and enter the scores.

    table: a JSON file like `scores.json`, by folder and split. `workers` processes read masks (0:
    this one, None: one per core). Pixels whose truth is 255 are left out, pixels predicted as 255
    or as no class are wrong.

    Raises:
        FileNotFoundError: for no such folder, and for an image without a mask.
        ValueError: for a truth or a mask that does not fit its image; nothing is entered then.
    """
    folder, found = Path(pred), {}
    masks = find_masks(folder)
    for split in name_splits(splits):
        records = list_scored(data, split)
        require_masks(records, masks, folder, split)

        # one confusion matrix of the split
        count = partial(count_record, masks=masks, classes=len(data.classes))
        tally = tally_lines(count_records(records, count, workers), 1 + len(data.classes))
        details = detail_tally(tally, data.classes)
        scores = score_tally(tally, data.classes)
        averages = average_ious(scores["masks"])
        write_scores(
            Path(table), str(folder), split, scores, {"masks": details["masks"] | averages}
        )
        found[split] = scores["masks"]

    # what there is now, and what a mean is over
    print_scores(Path(table))
    for split, scored in found.items():
        tell_averages(split, scored)
    return found


def list_scored(data: SegmentationDataModule, split: str) -> Records:
    """List the images of a split that have a truth; raises FileNotFoundError where none has."""
    records = data.read_split(split)
    known = [record for record in records if record.truth is not None]
    if known:
        report_missing_truths(records)
    else:
        check_all_truths(records, split)
    return known


def find_masks(folder: Path) -> dict[str, Path]:
    """Map composed names to the masks below a folder; raises FileNotFoundError without any."""
    masks = index_masks(folder)
    if not masks:
        raise FileNotFoundError(
            f"pred={folder} holds no masks, expected one <name>.png per image: name the folder of "
            "masks or seeds"
        )
    return masks


def require_masks(records: Records, masks: dict[str, Path], folder: Path, split: str) -> None:
    """Raise FileNotFoundError unless every image has a mask; tell how many belong to no image."""
    names = {compose(record.name) for record in records}
    missing = [record.name for record in records if compose(record.name) not in masks]
    if missing:
        raise FileNotFoundError(
            f"pred={folder} lacks the masks of {len(missing)} of {len(records)} images of {split}: "
            f"{name_first(missing)}; add them as <name>.png, or name the split that it is of "
            "(split=)"
        )
    if others := len(masks.keys() - names):
        logger.info("%s: %d masks are of no image of %s, and not counted", folder, others, split)


def count_records(records: Records, count: partial[Line], workers: int | None) -> Iterator[Line]:
    """Count every image, in several processes, with a bar in a terminal."""
    bar = partial(
        track,
        total=len(records),
        description="masks",
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
    )
    if workers == 0:
        yield from bar(map(count, records))
        return
    with ProcessPoolExecutor(workers, mp_context=find_start_context(None)) as pool:
        yield from bar(pool.map(count, records, chunksize=IMAGES_AT_ONCE))


def count_record(record: ImageRecord, masks: dict[str, Path], classes: int) -> Line:
    """Count the pixels of one image by truth and mask.

    Raises ValueError for a truth of other classes, and for a mask of another size.
    """
    assert record.truth is not None
    found = read_mask(record.truth)
    truth = check_mask(found, record.truth, found.shape, classes)
    path = masks[compose(record.name)]
    mask = read_mask(path)
    check_mask_size(path, mask.shape, truth.shape)
    prediction = GivenMask(record.name, torch.from_numpy(mask))
    return count_errors(prediction, torch.from_numpy(truth), 1 + classes)


def average_ious(scores: SegmentationMetrics) -> dict[str, float]:
    """Average IoU in the other ways that are in use, beside the mean over the classes of the truth.

    `miou_seen` is over the classes that truths or masks show (`nanmean` of other evaluators),
    `miou_all` over all, where those that neither shows count as 0.
    """
    ious = torch.tensor([*scores.iou.values()], dtype=torch.float64)
    return {
        "miou_seen": ious.nanmean().item(),
        "miou_all": ious.nan_to_num(0.0).mean().item(),
    }


def tell_averages(split: str, scores: SegmentationMetrics) -> None:
    """Say over which classes the mean is, and what other evaluators would print."""
    seen = [name for name, iou in scores.iou.items() if iou == iou]
    averages = average_ious(scores)
    logger.info(
        "%s: mIoU %s over the %d classes that truths show; %s over the %d that truths or masks "
        "show; %s over all %d, with 0 for the others",
        split,
        write_percent(scores.miou),
        sum(scores.present.values()),
        write_percent(averages["miou_seen"]),
        len(seen),
        write_percent(averages["miou_all"]),
        len(scores.iou),
    )
    if scores.invalid:
        logger.warning(
            "%s: %s %% of the pixels are predicted as 255 or as no class; each counts as wrong",
            split,
            write_percent(scores.invalid),
        )
