"""Gather what a file of corrections says of the images of a data set: masks, refusals, counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.choosing import Records
from fmawsss.files.images import read_size
from fmawsss.files.png import write_palette_png
from fmawsss.viz import make_palette
from stages.corrections.archives import Source
from stages.corrections.formats import Reader
from stages.corrections.names import ImageNames
from stages.corrections.records import BACKGROUND, Correction, Refusal, paint_correction
from stages.corrections.table import Row, describe_mask

PALETTE = make_palette(256)
TWICE = "another mask of it stands in the same file: remove one, or corrected_wins=last"


@dataclass
class Gathered:
    """What was found: rows of masks that lie in a folder, refusals, and images nobody annotated."""

    rows: dict[str, Row] = field(default_factory=dict)
    refused: dict[str, Row] = field(default_factory=dict)
    untouched: set[str] = field(default_factory=set)
    replaced: int = 0  # masks of an image that a later one of the same file took the place of


@dataclass(frozen=True)
class Gatherer:
    """Read corrections into masks, one image after the other.

    classes: of the data set, without the background.
    outside: the mask value of what no shape covers.
    last: whether the last of several masks of an image counts, or none.
    folder: where the masks are written.
    """

    records: Records
    classes: Sequence[str]
    outside: int
    last: bool
    folder: Path

    def gather(self, source: Source, read: Reader) -> Gathered:
        """Read a source."""
        names = ImageNames(record.name for record in self.records)
        images = {record.name: record.image for record in self.records}
        found = Gathered()
        for item in read(source):
            name = names.find(item.image)
            if name is None:
                reason = "no image of the data set has this name"
                found.refused[item.image] = Row(item.image, source=source.path.name, refused=reason)
            elif isinstance(item, Refusal):
                self._refuse(found, name, source, item.reason)
            elif isinstance(item, Correction) and (item.shapes or item.read or self.outside == 0):
                self._take(found, name, images[name], source, item)
            else:
                found.untouched.add(name)
        found.untouched -= found.rows.keys() | found.refused.keys()
        return found

    def _take(
        self, found: Gathered, name: str, image: Path, source: Source, item: Correction
    ) -> None:
        """Paint the mask of an image, unless the file has another one of it."""
        labels = (BACKGROUND, *self.classes)
        values = {label: value for value, label in enumerate(labels)}
        try:
            painted = paint_correction(item, read_size(image), values, self.outside)
        except (ValueError, OSError) as error:
            return self._refuse(found, name, source, f"{item.place}: {error}")
        row = describe_mask(name, painted, labels, source.path.name, item.place)

        # one mask of an image, or several that are the same
        before = found.rows.get(name)
        if before is not None and before.digest != row.digest and not self.last:
            return self._refuse(found, name, source, f"{item.place}: {TWICE}")
        if name in found.refused and not self.last:
            return None
        found.replaced += before is not None and before.digest != row.digest
        found.refused.pop(name, None)
        found.rows[name] = row
        write_palette_png(self.folder / f"{name}.png", painted.mask, PALETTE)
        return None

    def _refuse(self, found: Gathered, name: str, source: Source, reason: str) -> None:
        """Take nothing of an image, and say why."""
        found.rows.pop(name, None)
        found.refused[name] = Row(name, source=source.path.name, refused=reason)


def list_refusals(refused: Mapping[str, Row], shown: int) -> Iterator[str]:
    """Say why images were refused, the first ones."""
    for row in list(refused.values())[:shown]:
        yield f"{row.image}: refused: {row.refused}"
    if len(refused) > shown:
        yield f"and {len(refused) - shown} more, in the table"
