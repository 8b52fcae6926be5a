"""Take superpixels that were cut elsewhere: `infer.py task=unpack package=FOLDER`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Records, Splits, name_splits
from fmawsss.files.contents import digest_file, find_changes, note_files, place_notes
from fmawsss.files.fingerprints import differing_keys
from fmawsss.files.hub import find_shared
from fmawsss.files.journals import Line, describe_record, list_journals, place_journal, read_lines
from fmawsss.files.listing import current, work_in_parts
from fmawsss.files.locks import hold_lock, place_lock
from fmawsss.files.products import (
    ANY,
    Product,
    ProductMismatch,
    holds_files,
    read_record,
    refuse_edited,
)
from fmawsss.files.storage import read_superpixels
from fmawsss.files.superpixel_package import AGAIN, PACKAGE, Entry, Package, open_package
from fmawsss.files.texts import compose, name_first
from fmawsss.files.writing import append_line, replace_file
from fmawsss.records import ImageRecord

logger = logging.getLogger(__name__)


def unpack_superpixels(
    data: SegmentationDataModule, splits: Splits, package: str | None, folder: str
) -> None:
    """Put the superpixels of a package where `task=superpixels` would, for images that are here.

    Each is compared with its image: by name, and by what the image's file holds. Images of the
    package that are not here are left out.

    Raises:
        FileNotFoundError: without the package.
        ValueError: for one that is not whole, or of other images.
        ProductMismatch: where superpixels of other settings lie.
    """
    if package is None:
        raise ValueError("task=unpack reads a package of superpixels: name it, package=FOLDER")
    data.prepare_data()
    records = [record.without_truth() for record in data.read_records(splits)]
    path, target = find_shared(package, PACKAGE, "dataset"), Path(folder)
    with (
        hold_lock(place_lock(target), target, "paths.work"),
        open_package(path) as opened,
    ):
        found = compare(opened, records)
        part = ",".join(name_splits(splits))
        product = Product(target, opened.record["settings"], {})
        start(opened, product, part)
        fresh = take(opened, found.lines, target)
        finish(product, part, records)
        tell(opened, found, target, records, fresh)


@dataclass(frozen=True)
class Found:
    """What of a package is of images that are here.

    lines: for the journal, by the name in the package. changed: images whose files hold something
    else here.
    """

    lines: Mapping[str, Line]
    changed: list[str]


def compare(package: Package, records: Records) -> Found:
    """Compare the images of a package with those that are here, whose files are read.

    Raises:
        ValueError: when none is the same.
    """
    entries = {compose(entry.name): entry for entry in package.entries}
    shared = [record for record in records if compose(record.name) in entries]
    described = work_in_parts(describe_record, shared, "compared")
    lines, changed = {}, []
    for record, known in zip(shared, described, strict=True):
        entry = entries[compose(record.name)]
        if all(known["image_stamp"].get(key) == value for key, value in entry.image.items()):
            lines[entry.name] = write_line(record, known, entry)
        else:
            changed.append(record.name)
    if not lines:
        alike = f", {len(changed)} have the name of one alone" if changed else ""
        raise ValueError(
            f"{package.path} holds superpixels of {len(entries)} images, first "
            f"{next(iter(entries), 'none')}, none of which is among the {len(records)} here, first "
            f"{records[0].name}{alike}: name data set and split of the package, dataset=… split=…"
        )
    return Found(lines, changed)


def write_line(record: ImageRecord, known: Mapping[str, Any], entry: Entry) -> Line:
    """Write what the journal of superpixels says of an image."""
    counts = {"name": record.name, "confusion": {}, "boundary": {}}
    return {**counts, **known, "truth_stamp": None, "superpixels": dict(entry.facts)}


def start(package: Package, product: Product, part: str) -> None:
    """Write the record of the superpixels before the first of them, as a stage does.

    Raises:
        ProductMismatch: where others lie, or some that were edited.
    """
    target, ours = product.path, package.record
    record = read_record(target)
    remedy = "choose another paths.work to keep both, or move them away with their .json"
    if record is None and holds_files(target):
        raise ProductMismatch(f"{target} holds files without a record: {remedy}")
    same = record is not None and record["fingerprint"] == ours["fingerprint"]
    if record is not None and not same and holds_files(target):
        keys = name_first(differing_keys(record["settings"], ours["settings"])) or "its inputs"
        raise ProductMismatch(
            f"{target} was made with other settings than those in {package.path} ({keys}): {remedy}"
        )
    parts = record["parts"] if same and record is not None else {}
    if same:
        refuse_edited(target, find_changes(target, unknown=True))
    else:  # of what was removed
        for path in (*list_journals(target), place_notes(target)):
            path.unlink(missing_ok=True)
    product.write_parts({part: {"inputs": ANY, "complete": False}, **parts})


def take(package: Package, lines: Mapping[str, Line], target: Path) -> int:
    """Write the superpixels that are not there yet, each with its line; return how many."""
    journal, known = place_journal(target, 1, 0), read_lines(target)
    fresh = 0
    for entry, content in package.read_files():
        line = lines.get(entry.name)
        if line is None:
            continue
        path, noted = target / f"{line['name']}.npz", known.get(line["name"], {})
        same = noted.get("image_stamp") == line["image_stamp"]
        if same and path.is_file() and digest_file(path) == entry.digest:
            continue
        write_checked(path, content, package)
        append_line(journal, json.dumps([line]))
        fresh += 1
    return fresh


def write_checked(path: Path, content: bytes, package: Package) -> None:
    """Write the superpixels of an image; raises ValueError for a file that holds none."""
    with replace_file(path) as temporary:
        temporary.write_bytes(content)
        try:
            read_superpixels(temporary, package.record["fingerprint"])
        except ValueError as error:
            said = str(error).replace(str(temporary), path.name)
            raise ValueError(f"{package.path}: {said.partition(': delete')[0]}: {AGAIN}") from error


def finish(product: Product, part: str, records: Records) -> None:
    """Note what was taken; the split is complete when no image lacks superpixels."""
    current().forget()
    note_files(product.path, {record.name for record in records})
    record = read_record(product.path)
    assert record is not None  # `start` wrote it
    complete = not list_missing(product.path, records)
    product.write_parts({**record["parts"], part: {"inputs": ANY, "complete": complete}})


def list_missing(target: Path, records: Records) -> list[str]:
    """List the images without superpixels."""
    return [record.name for record in records if not (target / f"{record.name}.npz").is_file()]


def tell(package: Package, found: Found, target: Path, records: Records, fresh: int) -> None:
    """Say what was taken, what was not, and which images have none."""
    missing = list_missing(target, records)
    others = len(package.entries) - len(found.lines) - len(found.changed)
    logger.info(
        "%d images have superpixels in %s, %d of them newly; %d images of the package are not here",
        len(records) - len(missing),
        target,
        fresh,
        others,
    )
    if found.changed:
        logger.warning(
            "%d images have other files here than where they were cut, their superpixels were not "
            "taken: %s",
            len(found.changed),
            name_first(found.changed),
        )
    if missing:
        logger.warning(
            "%d images have no superpixels: %s; `python infer.py task=superpixels`, with the "
            "settings of the package, cuts these alone",
            len(missing),
            name_first(missing),
        )
