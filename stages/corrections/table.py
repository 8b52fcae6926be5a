"""The table beside trusted masks: what was corrected of each image, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fmawsss.files.texts import read_table, write_row
from fmawsss.files.writing import write_bytes
from fmawsss.metrics import IGNORE
from stages.corrections.records import Painted

BROKEN = "delete it together with the folder, and take the corrections again"


@dataclass(frozen=True)
class Row:
    """What is known of one image; `refused` says why nothing was taken, and the rest is empty.

    classes, pixels: what was touched, and how much of each, joined by semicolons.
    overdrawn: pixels that were drawn twice, as different classes; the later one counts.
    source, place: the file, and where it stands there. digest: of the mask.
    """

    image: str
    classes: str = ""
    pixels: str = ""
    overdrawn: str = ""
    source: str = ""
    place: str = ""
    digest: str = ""
    refused: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def describe_mask(
    image: str, painted: Painted, classes: Sequence[str], source: str, place: str
) -> Row:
    """Describe a trusted mask; `classes` begin with the background."""
    counts = np.bincount(painted.mask.ravel(), minlength=256)
    shown = [value for value in np.flatnonzero(counts).tolist() if value != IGNORE]
    return Row(
        image,
        ";".join(classes[value] for value in shown),
        ";".join(str(counts[value]) for value in shown),
        str(painted.overdrawn),
        source,
        place,
        digest_mask(painted.mask),
    )


def digest_mask(mask: UInt8[np.ndarray, "H W"]) -> str:
    """Digest the size and the values of a mask."""
    return sha256(f"{mask.shape}".encode() + np.ascontiguousarray(mask).tobytes()).hexdigest()[:16]


def read_rows(path: Path) -> dict[str, Row]:
    """Read the rows of images that were taken; none where there is no table.

    Raises:
        ValueError: naming a table that is broken.
    """
    if not path.is_file():
        return {}
    try:
        cells = [row for _, row, _ in read_table(path, COLUMNS).read_rows()]
    except ValueError as error:
        raise ValueError(f"{error}: {BROKEN}") from error
    rows = [Row(*(row[column] for column in COLUMNS)) for row in cells]
    return {row.image: row for row in rows if not row.refused}


def write_rows(path: Path, taken: Mapping[str, Row], refused: Sequence[Row]) -> None:
    """Write the rows of all images that were taken, and of those that were refused last."""
    rows = [taken[name] for name in sorted(taken)] + sorted(refused, key=lambda row: row.image)
    lines = [write_row(COLUMNS), *(write_row(astuple(row)) for row in rows)]
    write_bytes(path, "".join(lines).encode())
