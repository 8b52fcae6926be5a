"""Take corrections of people back as trusted masks: `infer.py task=corrections corrected=FILE`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits
from datamodules.images import list_stems
from datamodules.labels import NO_CLASSES
from fmawsss.files.contents import drop_notes, find_changes, note_files
from fmawsss.files.corrected import open_corrected, record_corrected
from fmawsss.files.json_files import many_objects
from fmawsss.files.listing import current
from fmawsss.files.locks import hold_lock, place_lock
from fmawsss.files.texts import name_first
from fmawsss.files.writing import name_temporary, remove_leftovers
from fmawsss.metrics import IGNORE
from stages.corrections.archives import open_source
from stages.corrections.formats import choose_reader
from stages.corrections.gather import Gathered, Gatherer, list_refusals
from stages.corrections.table import Row, read_rows, write_rows

logger = logging.getLogger(__name__)

OUTSIDE = {"background": 0, "untouched": IGNORE}
BEFORE = "it was corrected otherwise before, by {}: corrected_wins=last takes this one"


@many_objects()
def take_corrections(
    data: SegmentationDataModule,
    splits: Splits,
    corrected: str | None,
    corrected_format: str,
    corrected_outside: str,
    corrected_wins: str | None,
    folder: str,
    shown: int,
) -> None:
    """Read corrections, check them against the data set, and write trusted masks and a table.

    corrected: a file, folder or archive. corrected_outside: what stands where no shape is drawn.
    corrected_wins: `last`, where an image has two masks; None refuses it. shown: reasons told.

    Raises:
        ValueError: for a file that cannot be read, or of which nothing can be taken.
    """
    if corrected is None:
        raise ValueError("task=corrections reads a file: name it with corrected=FILE")
    if not data.classes:
        raise ValueError(NO_CLASSES)
    data.prepare_data()
    records, target = data.read_records(splits), Path(folder)
    with (
        hold_lock(place_lock(target), target, "paths.work"),
        open_source(Path(corrected)) as source,
    ):
        if target.resolve() == source.path.resolve():
            raise ValueError(f"corrected={corrected} is where the masks go: name another folder")
        with open_scratch(target) as scratch:
            outside, last = OUTSIDE[corrected_outside], corrected_wins == "last"
            gatherer = Gatherer(records, data.classes, outside, last, scratch)
            found = gatherer.gather(source, choose_reader(source, corrected_format))
            tell(source.path, found, shown, keep(found, target, data, scratch, last))


@contextmanager
def open_scratch(target: Path) -> Iterator[Path]:
    """Open a folder beside another for a while; what killed runs left of such ones goes."""
    remove_leftovers(target.parent)
    folder = target.with_name(name_temporary(f"{target.name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(
    found: Gathered, target: Path, data: SegmentationDataModule, scratch: Path, last: bool
) -> int:
    """Keep the masks that are new beside those that are there; return how many are new."""
    table = target.with_name(f"{target.name}.csv")
    known = read_known(target, table, data)
    refuse_strays(target, [*known, *found.rows])
    for name in [name for name in found.rows if name in known]:
        if found.rows[name].digest == known[name].digest:
            continue
        if not last:
            del found.rows[name]
            reason = BEFORE.format(known[name].source)
            found.refused[name] = Row(name, source=known[name].source, refused=reason)

    # without a record nothing reads the folder: it comes back when all is there
    fresh = {
        name: row
        for name, row in found.rows.items()
        if name not in known or row.digest != known[name].digest
    }
    record = target.with_name(f"{target.name}.json")
    if fresh or not record.is_file():
        record.unlink(missing_ok=True)
        drop_notes(target, set(fresh))
        for name in fresh:
            path = target / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            (scratch / f"{name}.png").replace(path)
    rows = {**known, **fresh}
    write_rows(table, rows, list(found.refused.values()))
    if rows:
        current().forget()
        note_files(target, set(rows))
        digests = {name: row.digest for name, row in rows.items()}
        record_corrected(target, data.classes, digests)
    return len(fresh)


def read_known(target: Path, table: Path, data: SegmentationDataModule) -> Mapping[str, Row]:
    """Read what was taken before; masks that were changed or removed since count no longer.

    Raises:
        ValueError: for masks of other classes.
    """
    if target.with_name(f"{target.name}.json").is_file():
        open_corrected(target, data.classes)
    known = read_rows(table)
    changes = find_changes(target, unknown=True)
    if strange := [name for name in changes.edited if name.removesuffix(".png") in known]:
        raise ValueError(
            f"{target} was changed since it was made, {len(strange)} masks: {name_first(strange)}. "
            "Move them to a folder of their own, and take that: corrected=FOLDER"
        )

    # whoever removes a mask takes its correction back; a cut one is made again
    lost = {name for name in known if not (target / f"{name}.png").is_file()}
    lost |= {name.removesuffix(".png") for name in changes.damaged} & known.keys()
    if lost:
        logger.warning("%d masks were removed or cut off: %s", len(lost), name_first(sorted(lost)))
        target.with_name(f"{target.name}.json").unlink(missing_ok=True)
        drop_notes(target, lost)
    return {name: row for name, row in known.items() if name not in lost}


def refuse_strays(target: Path, names: Iterable[str]) -> None:
    """Raise ValueError for masks in the folder that are not among these."""
    present = list_stems(target, ".png") if target.is_dir() else set()
    if strays := sorted(present.difference(names)):
        raise ValueError(
            f"{target} holds {len(strays)} masks that nobody took: {name_first(strays)}. Move them "
            "to a folder of their own, and take that: corrected=FOLDER"
        )


def tell(path: Path, found: Gathered, shown: int, fresh: int) -> None:
    """Say what was taken and what was not.

    Raises:
        ValueError: when nothing was.
    """
    for line in list_refusals(found.refused, shown):
        logger.warning("%s", line)
    contested = [row for row in found.rows.values() if row.overdrawn not in ("", "0")]
    if contested:
        pixels = sum(int(row.overdrawn) for row in contested)
        logger.info(
            "%d pixels of %d images were drawn twice, as different classes: the later one counts",
            pixels,
            len(contested),
        )
    if not found.rows:
        first = next(list_refusals(found.refused, 1), "")
        raise ValueError(
            f"nothing of {path} was taken: {len(found.refused)} images were refused, "
            f"{len(found.untouched)} have no annotation; {first}"
        )
    logger.info(
        "%d images are corrected, %d of them newly; %d refused, %d without any annotation",
        len(found.rows),
        fresh,
        len(found.refused),
        len(found.untouched),
    )
