"""What the journal of a product says of its images, read once; pixel counts are summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from fmawsss.files.journals import Line, PackedLines, list_journals, stream_lines
from fmawsss.files.tallies import (
    Counts,
    add_counts,
    find_miou,
    find_mious,
    list_kinds,
    split_lines,
    stack_counts,
)

UNSHOWN = {"boundary", "image_stamp", "truth_stamp"}  # of what a journal says of an image


class ReportLines(PackedLines):
    """The lines of a product without their pixel counts, and what these come to.

    scores, confidences: of each image, NaN where there is none.
    counted, parted: whether anything was counted of it, and whether its regions are known.
    """

    def __init__(self, read: Callable[[], Iterable[dict[str, Any]]], classes: int) -> None:
        """Read lines; `classes` includes the background, and `read` is called once more for
        images that are named twice, of which the last line counts."""
        super().__init__(())
        self._totals: dict[str, np.ndarray] = {}
        self._shape = classes, classes + 1
        last: dict[str, int] = {}
        parts: list[np.ndarray] = [np.zeros((0, 4))]
        for first, lines in split_lines(map(shorten_line, read())):
            parts.append(self._measure(lines))
            for number, line in enumerate(lines, first):
                last[line["name"]] = number
                self.pack(line)

        # of images that are named twice
        rows = np.concatenate(parts)
        if len(last) < len(rows):
            self._take_away(map(shorten_line, read()), set(last.values()))
            rows = rows[list(last.values())]
        self.scores, self.confidences = rows[:, 0], rows[:, 1]
        self.counted, self.parted = rows[:, 2] > 0, rows[:, 3] > 0

    @property
    def confusion(self) -> Int64[Tensor, "R R+1"] | None:
        """The confusion matrix of the last kind of mask; None without ground truth."""
        return torch.from_numpy(list(self._totals.values())[-1]) if self._totals else None

    def _measure(self, lines: Sequence[dict[str, Any]]) -> Float64[np.ndarray, "N 4"]:
        """Measure images, add what was counted of them, and take that out of their lines."""
        kinds = list_kinds(lines, "confusion")
        stacks = {kind: stack_counts(counts) for kind, counts in kinds.items()}
        (scored,) = (
            stacks.values() if len(stacks) == 1 else [stack_counts(list(map(find_last, lines)))]
        )
        rows = np.full((len(lines), 4), np.nan)
        rows[:, 0] = find_mious(scored, len(lines))
        rows[:, 1] = [find_confidence(line) for line in lines]  # type: ignore[misc]
        rows[:, 2] = [bool(find_last(line)) for line in lines]
        rows[:, 3] = [bool(line.get("regions")) for line in lines]
        for kind, stack in stacks.items():
            add_counts(self._totals, kind, stack, self._shape)
        for line in lines:
            line.pop("confusion", None)
        return rows

    def _take_away(self, lines: Iterable[Line], kept: set[int]) -> None:
        """Take the lines away from what was summed that do not count."""
        old = (line for number, line in enumerate(lines) if number not in kept)
        for _, batch in split_lines(old):
            for kind, counts in list_kinds(batch, "confusion").items():
                stack = stack_counts(counts)
                add_counts(self._totals, kind, stack._replace(pixels=-stack.pixels), self._shape)


def read_report_lines(product: Path, classes: int) -> ReportLines:
    """Read the journals of a product."""

    def read() -> Iterator[dict[str, Any]]:
        for path in list_journals(product):
            yield from stream_lines(path, last=True)

    return ReportLines(read, classes)


def shorten_line(line: dict[str, Any]) -> dict[str, Any]:
    """Keep what a report shows of an image: of its kinds of mask the last one."""
    short = {key: line[key] for key in line if key not in UNSHOWN}
    if confusion := list(short.pop("confusion", {}).items())[-1:]:
        short["confusion"] = dict(confusion)
    return short


def score_image(line: Line) -> float | None:
    """Return the mean IoU of an image over the classes in its truth; None without truth.

    Its last kind of mask counts.
    """
    return find_miou(find_last(line))


def find_last(line: Line) -> Counts:
    """Return what was counted of the last kind of mask that anything was counted of."""
    return next((counts for counts in reversed(line.get("confusion", {}).values()) if counts), ())


def find_confidence(line: Line) -> float | None:
    """Return the mean confidence of an image's last kind of mask; None where none is noted."""
    regions = list(line.get("regions", {}).values())
    return sum(share * confidence for _, share, confidence in regions[-1]) if regions else None
