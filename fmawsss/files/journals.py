"""Journals beside a product: a line per batch with what was counted of it, read and summed."""

from __future__ import annotations

import json
import logging
import marshal
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from fmawsss.files.contents import digest_file
from fmawsss.files.images import TURNED_TIFFS, is_turned_tiff, stamp_file
from fmawsss.files.json_files import many_objects, parse_line
from fmawsss.files.listing import current, stamp_files
from fmawsss.files.products import ProductMismatch
from fmawsss.files.texts import name_first
from fmawsss.metrics import count_boundaries, count_confusion
from fmawsss.records import ImageRecord, Prediction
from fmawsss.resizing import resize_mask

logger = logging.getLogger(__name__)
CONFUSION = '"confusion": {'

Line: TypeAlias = Mapping[str, Any]  # what the journal says of an image


def place_journal(product: Path, shard: int, rank: int) -> Path:
    """Name the journal that one process writes beside a product."""
    return product.with_name(f"{product.name}.scores.{shard}-{rank}.jsonl")


def list_journals(product: Path) -> list[Path]:
    """List the journals beside a product, one per process."""
    return sorted(product.parent.glob(f"{product.name}.scores.*.jsonl"))


class PackedLines(Mapping[str, Line]):
    """What journals say of images, by name; each line is packed in bytes until it is asked for.

    COCO's journals hold millions of numbers: as Python's objects they take five times the room. The
    bytes never leave this process.
    """

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self._packed: dict[str, bytes] = {}
        for line in lines:
            self.pack(line)

    def pack(self, line: dict[str, Any]) -> None:
        """Take a line in the place of an earlier one of its image."""
        self._packed[line["name"]] = marshal.dumps(line)

    def __getitem__(self, name: str) -> Line:
        line: Line = marshal.loads(self._packed[name])
        return line

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def values(self) -> PackedValues:
        """Give the lines in their order."""
        return PackedValues(self)

    def list_with(self, fact: str) -> Iterator[Line]:
        """List the lines that hold a fact; others stay packed."""
        held = (self[name] for name, packed in self._packed.items() if fact.encode() in packed)
        return (line for line in held if line.get(fact))


class PackedValues(ValuesView[Line]):
    """Lines in their order; one may be asked for by its number."""

    _mapping: PackedLines

    def __getitem__(self, number: int) -> Line:
        return self._mapping[self._names[number]]

    @cached_property
    def _names(self) -> list[str]:
        return list(self._mapping)


class Journals(NamedTuple):
    """What the journals beside a product said last of each image, in complete lines.

    truths: by name, the stamp of the ground truth that the image was compared with.
    """

    lines: PackedLines
    truths: Mapping[str, str | None]


def read_journals(product: Path) -> Journals:
    """Read the journals beside a product; those read last are remembered until they change."""
    return parse_journals(tuple((path, stamp_file(path)) for path in list_journals(product)))


def read_lines(product: Path) -> PackedLines:
    """Read the lines of `read_journals`."""
    return read_journals(product).lines


@lru_cache(maxsize=1)
@many_objects()
def parse_journals(journals: Sequence[tuple[Path, str]]) -> Journals:
    """Parse journals, each with what its file was like when this was asked."""
    lines, truths = PackedLines(()), {}
    for path, _ in journals:
        for line in stream_lines(path):
            lines.pack(line)
            truths[line["name"]] = line.get("truth_stamp")
    return Journals(lines, truths)


def stream_lines(journal: Path, last: bool = False) -> Iterator[dict[str, Any]]:
    """Read what a journal says of each image; of one that it names twice the last counts.

    last: pixels of the last kind of mask are enough, and boundaries need not be read.
    """
    with journal.open(encoding="utf-8") as file:
        for text in filter(str.strip, file):
            try:
                found = parse_line(drop_counts(text) if last else text)
            except json.JSONDecodeError:
                logger.warning("%s: a line was cut off; its images count as not done", journal)
            else:  # older journals have a line per image
                yield from map(drop_regions, found if isinstance(found, list) else [found])


def drop_counts(text: str) -> str:
    """Take counts out of the text of lines, most of it: boundaries, all kinds of mask but the last.

    What is not written as `json.dumps` does it stays. The marks stand in no name or path, for
    quotation marks are escaped there.

    >>> drop_counts('{"confusion": {"cam": [[1, 1, 9]], "a": []}, "boundary": {}, "n": 1}')
    '{"confusion": {"a": []}, "n": 1}'
    """
    before, *after = text.split('"boundary": {')
    text = before + "".join(part.partition("}, ")[2] for part in after)
    before, *after = text.split(CONFUSION)
    bodies = (part.partition("}") for part in after)
    return before + "".join(
        CONFUSION + keep_last(body) + mark + rest for body, mark, rest in bodies
    )


def keep_last(body: str) -> str:
    """Keep the last of several keys with lists of lists."""
    _, mark, last = body.rpartition('], "')
    return f'"{last}' if mark else body


def drop_regions(line: dict[str, Any]) -> dict[str, Any]:
    """Keep the regions of the last kind of mask: nobody asks for the others."""
    if "regions" in line:
        line["regions"] = dict(list(line["regions"].items())[-1:])
    return line


def describe_record(record: ImageRecord) -> dict[str, Any]:
    """Say where an image and its truth lie, and its labels (indices); None where unknown."""
    return {
        "image": str(record.image.absolute()),
        "image_stamp": stamp_image(record.image),
        "truth": None if record.truth is None else str(record.truth.absolute()),
        "labels": None if record.labels is None else list(record.labels),
    }


def stamp_image(path: Path) -> dict[str, int | str]:
    """Note what tells an image file from another of its name."""
    status, digest = path.stat(), digest_file(path)
    stamp: dict[str, int | str] = {"bytes": status.st_size, "modified": status.st_mtime_ns}
    stamp["sha256"] = digest
    return {**stamp, "read_by": TURNED_TIFFS} if is_turned_tiff(path) else stamp


def is_unchanged(path: Path, stamp: Mapping[str, int | str]) -> bool:
    """Say whether a file is the noted one, read as now; it is read when its time alone differs."""
    found = current().ask(path)
    if found.size != stamp["bytes"]:
        return False
    if is_turned_tiff(path) and stamp.get("read_by") != TURNED_TIFFS:
        return False
    return found.modified == stamp["modified"] or digest_file(path) == stamp["sha256"]


def refuse_changed(product: Path, records: Sequence[ImageRecord]) -> None:
    """Raise ProductMismatch when images are no longer those that a product was made from."""
    lines = read_lines(product).values()
    stamps = {line["name"]: line["image_stamp"] for line in lines if "image_stamp" in line}
    noted = [record for record in records if record.name in stamps]
    stamp_files([record.image_file for record in noted])
    changed = [r.name for r in noted if not is_unchanged(r.image, stamps[r.name])]
    if changed:
        raise ProductMismatch(
            f"{product} was made from other files of {len(changed)} of {len(records)} images: "
            f"{name_first(changed)}. Remove what it holds of these to make it anew, add "
            "overwrite=true to make everything anew, or choose another paths.work to keep both."
        )


def count_errors(
    prediction: Prediction, truth: Integer[Tensor, "H W"] | None, classes: int
) -> dict[str, Any]:
    """Count confusion and boundary pixels of each kind of mask; nothing without truth.

    `classes` includes the background.
    """
    confusion: dict[str, Any] = {}
    boundary: dict[str, Any] = {}
    if truth is not None:
        for kind, found in prediction.masks().items():
            mask = fit_mask(found, truth)
            confusion[kind] = list_counts(count_confusion(mask, truth, classes))
            boundary[kind] = list_counts(count_boundaries(mask, truth, classes))
    return {"name": prediction.name, "confusion": confusion, "boundary": boundary}


def fit_mask(mask: UInt8[Tensor, "h w"], truth: Integer[Tensor, "H W"]) -> UInt8[Tensor, "H W"]:
    """Enlarge the mask of a copy of an image to the image."""
    if mask.shape == truth.shape:
        return mask
    height, width = truth.shape
    return torch.from_numpy(resize_mask(mask.cpu().numpy(), (height, width))).to(mask.device)


def list_counts(matrix: Int64[Tensor, "rows columns"]) -> list[list[int]]:
    """List the entries of a sparse matrix as (row, column, pixels)."""
    return [[*index, int(matrix[tuple(index)])] for index in matrix.nonzero().tolist()]
