"""The number that a sweep maximises, read from what a job left: the `criterion` group names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.choosing import Splits, name_splits
from fmawsss.files.journals import read_lines
from fmawsss.files.json_files import read_json


def read_miou(scores: Path, stage: str, split: Splits | None, masks: str | None) -> float | None:
    """Read the mIoU of one kind of masks of a stage on a split from `scores.json`.

    None when nothing has a score.

    Raises:
        ValueError: when there are scores, but not these.
    """
    if masks is None or split is None or not Path(scores).is_file():
        return None
    table = read_json(Path(scores)).get(stage, {})
    name = ",".join(name_splits(split))
    try:
        return table[name][masks]["miou"]
    except KeyError:
        known = ", ".join(f"{part}: {' '.join(kinds)}" for part, kinds in table.items())
        raise ValueError(
            f"{scores} has no mIoU of {masks} on {name} by stage {stage}, only ({known}); "
            "name one with criterion.split=… criterion.masks=…"
        ) from None


def refuse_unnamed_split(criterion: Mapping[str, Any], chosen: Sequence[str]) -> None:
    """Raise ValueError when settings are to be chosen by masks of a split that is not named.

    `chosen` are the settings that a sweep varies, but for random seeds, which are averaged over.
    """
    if chosen and criterion.get("masks") is not None and criterion.get("split", "") is None:
        raise ValueError(
            f"a sweep chooses {', '.join(chosen)} by the {criterion['masks']} masks of stage "
            f"{criterion['stage']}, but criterion.split names no split, and the one that is "
            "reported is not taken by itself. Name one that is kept for choosing: "
            "`data.predict_split=train criterion.split=train` applies a network to train, "
            "`criterion.stage=seg criterion.masks=sams criterion.split=train` judges a pipeline "
            "by its fine seeds"
        )


def read_agreement(product: Path) -> float:
    """Average the agreement of the seeds over all images of a product (`fmawsss.agreement`).

    Raises:
        ValueError: when no image has any.
    """
    values = [line.get("agreement") for line in read_lines(Path(product)).values()]
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError(
            f"{product} has no superpixel seeds whose agreement could be measured: use task=cls, "
            "seg or seeds with superpixels, or criterion=miou"
        )
    return sum(known) / len(known)
