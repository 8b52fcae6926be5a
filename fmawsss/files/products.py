"""What the stages made, and from what: it is reused, resumed or refused.

A product is a file (`cls.ckpt`) or a folder with one file per image (`superpixels/`). Its record
(`cls.ckpt.json`, `superpixels.json`) holds the resolved settings, the fingerprints of the products
it was made from, and the parts (splits) that are complete. Equal fingerprint: reuse, or go on where
it stopped. Different: refuse, unless told to overwrite.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmawsss.files.contents import (
    Changes,
    digest_file,
    find_changes,
    find_own,
    list_inner,
    place_file,
    place_notes,
    read_notes,
    write_notes,
)
from fmawsss.files.fingerprints import differing_keys, fingerprint, flatten
from fmawsss.files.json_files import read_json, write_json
from fmawsss.files.listing import current
from fmawsss.files.texts import name_first

logger = logging.getLogger(__name__)
RECORD_VERSION = 2
RECORDED = {"version", "fingerprint", "parts", "upstream", "settings"}
ANY = (
    "any"  # inputs of a product whose images may be added and removed, and are compared one by one
)


class ProductMismatch(RuntimeError):
    """A product on disk was made with other settings."""


@dataclass(frozen=True)
class Product:
    """A file or folder, its settings, and what it is made from (path → fingerprint)."""

    path: Path
    settings: Mapping[str, Any]
    upstream: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and of everything upstream."""
        return fingerprint({"settings": self.settings, "upstream": self.upstream})

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path.with_name(self.path.name + ".json")

    def open(self, overwrite: bool, beside: Sequence[Path] = ()) -> None:
        """Start the product, or go on with it; starting anew removes what was there, and `beside`.

        A record of other settings that left nothing behind stands in no way.

        Raises:
            ProductMismatch: when the product on disk was made otherwise and `overwrite` is false.
        """
        record = read_record(self.path)
        if record is not None and self._is_made_by(record) and not overwrite:
            return
        empty = not any(holds_files(path) for path in (self.path, *beside))
        if record is None and holds_files(self.path):
            raise ProductMismatch(
                f"{self.path} holds files without a record ({self.record_path.name}): they were "
                "not made here; move them away or choose another paths.work"
            )
        if record is not None and not overwrite and not empty:
            raise ProductMismatch(self._explain(record))
        if record is not None and not empty:
            logger.warning("overwriting %s", self.path)
        # Only when nothing old is left does the new record appear: a kill in between leaves the old
        # one, or none
        for path in (*beside, place_notes(self.path), *list(find_own(self.path))):
            remove_path(path)
        with suppress(OSError):  # products within it stay
            self.path.rmdir()
        if not empty:
            current().forget()
        self.write_parts({})

    def start(self, part: str, inputs: str, beside: Sequence[Path] = ()) -> None:
        """Start a part (a split), or go on with it.

        One that left nothing behind, nor `beside`, starts anew.

        Raises:
            ProductMismatch: when the part was started from other images or labels.
        """
        known = self._read_parts().get(part)
        made = any(holds_files(path) for path in (self.path, *beside))
        if known is not None and not known["complete"] and not made:
            known = None
        if known is not None and inputs not in (known["inputs"], ANY):
            raise ProductMismatch(
                f"{self.path} was made from other images or labels of {part}: they changed since. "
                "Add overwrite=true to make it anew, or choose another paths.work to keep both."
            )
        if known is None:
            self.write_parts({**self._read_parts(), part: {"inputs": inputs, "complete": False}})

    def is_complete(self, part: str) -> bool:
        """Say whether a part was finished with these settings."""
        return bool(self._read_parts().get(part, {}).get("complete", False))

    def finish(self, part: str) -> None:
        """Record a started part as complete."""
        parts = self._read_parts()
        self.write_parts({**parts, part: {**parts[part], "complete": True}})

    def repair(self) -> None:
        """Remove files that are empty or cut off, so that they are made again, and say so.

        Raises:
            ProductMismatch: for files that were changed since they were made.
        """
        changes = find_changes(self.path, unknown=True)
        refuse_edited(self.path, changes)
        if not changes.lost and not changes.damaged:
            return current().note_compared(self.path)
        faults = (("lost", changes.lost), ("empty or cut off", changes.damaged))
        said = [f"{len(names)} {fault}: {name_first(names)}" for fault, names in faults if names]
        logger.warning("%s has files that are made again (%s)", self.path, "; ".join(said))

        # Their notes first: what is made in their place may differ
        strange = {*changes.lost, *changes.damaged}
        notes = read_notes(self.path)
        write_notes(self.path, {name: notes[name] for name in notes.keys() - strange})
        for name in changes.damaged:
            place_file(self.path, name).unlink(missing_ok=True)
        current().forget()

    def forget(self, part: str) -> None:
        """Take back the start of a part of which nothing was made, and the record of nothing."""
        parts = {name: known for name, known in self._read_parts().items() if name != part}
        if parts or holds_files(self.path):
            self.write_parts(parts)
        else:
            self.record_path.unlink(missing_ok=True)

    def _read_parts(self) -> dict[str, Any]:
        record = read_record(self.path)
        return record["parts"] if record is not None and self._is_made_by(record) else {}

    def write_parts(self, parts: Mapping[str, Any]) -> None:
        """Write the record: what was started and finished, beside what the product is."""
        record = {
            "version": RECORD_VERSION,
            "fingerprint": self.fingerprint,
            "parts": dict(parts),
            "upstream": dict(self.upstream),
            "settings": flatten(self.settings),
        }
        write_json(self.record_path, record)

    def _is_made_by(self, record: Mapping[str, Any]) -> bool:
        """Say whether a record is of this very product."""
        return record["version"] == RECORD_VERSION and record["fingerprint"] == self.fingerprint

    def _explain(self, record: Mapping[str, Any]) -> str:
        """Say what differs between the product on disk and the one that is asked for."""
        remedy = "Add overwrite=true to make it anew, or choose another paths.work to keep both."
        if record["version"] != RECORD_VERSION:
            return (
                f"{self.path} was made by an older version of this program (record version "
                f"{record['version']}, now {RECORD_VERSION}). {remedy}"
            )

        # The settings, and the products that it was made from
        old = {**record["settings"], **name_upstream(record["upstream"])}
        new = {**flatten(self.settings), **name_upstream(self.upstream)}
        keys = differing_keys(old, new)
        lines = [f"  {describe_change(key, old.get(key), new.get(key))}" for key in keys]
        title = f"{self.path} was made with other settings (on disk -> now):"
        return "\n".join([title, *lines, remedy])


def holds_files(path: Path) -> bool:
    """Say whether a path is a file, or a folder that holds more than products of their own."""
    return next(find_own(path), None) is not None


def refuse_inner(path: Path, images: Sequence[str]) -> None:
    """Raise ProductMismatch when names of images lead into a product within a product."""
    folders = {name.partition("/")[0] for name in images if "/" in name}
    if taken := sorted(folders.intersection(list_inner(path))):
        raise ProductMismatch(
            f"{path / taken[0]} holds masks of another folder, and images below {taken[0]}/ would "
            "have theirs there: move it away, or choose another paths.work"
        )


def require_unchanged(path: Path) -> None:
    """Check that a product still holds what it held when it was finished, as far as that was noted.

    Raises:
        ProductMismatch: for files that are cut off, or were changed since.
    """
    if current().is_compared(path):
        return
    changes = find_changes(path, unknown=False)
    refuse_edited(path, changes)
    if changes.damaged:
        raise ProductMismatch(
            f"{path} has {len(changes.damaged)} files that are empty or cut off: "
            f"{name_first(changes.damaged)}. Run the command that made it again, it makes these "
            "anew; or restore them"
        )
    current().note_compared(path)


def refuse_edited(path: Path, changes: Changes) -> None:
    """Raise ProductMismatch when files of a product were changed since they were made."""
    if changes.edited:
        raise ProductMismatch(
            f"{path} was changed since it was made, {len(changes.edited)} files: "
            f"{name_first(changes.edited)}. Restore them, remove them to have them made again, or "
            "add overwrite=true to make everything anew; to use what you edited, copy it to a "
            "folder of its own and name that"
        )


def name_upstream(upstream: Mapping[str, str]) -> dict[str, str]:
    """Name the products that another was made from, for people."""
    return {f"made from {name}": digest for name, digest in upstream.items()}


def describe_change(key: str, old: Any, new: Any) -> str:
    """Describe a setting that changed, or the version of our own code; the first had no number.

    >>> describe_change("versions.SAMS", 3, 4)
    'made by version 3 of SAMS, now 4'
    """
    if key.startswith("versions."):
        return f"made by version {old or 1} of {key.removeprefix('versions.')}, now {new}"
    return f"{key}: {old!r} -> {new!r}"


def remove_path(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record beside a product, None when there is none.

    Raises:
        ValueError: when the record is unreadable, or holds other things.
    """
    record_path = path.with_name(path.name + ".json")
    if not record_path.is_file():
        return None
    remedy = f"put a whole one there, or delete it together with {path} to make both again"
    record = read_json(record_path, remedy)
    if not isinstance(record, dict) or RECORDED - set(record):
        raise ValueError(f"{record_path} is no record of a product: {remedy}")
    return record


def read_fingerprint(path: Path) -> str:
    """Return the fingerprint of a product, or a digest of what was made elsewhere.

    A file is digested whole, a folder by the names and sizes of its files.
    """
    record = read_record(path)
    if record is not None:
        return str(record["fingerprint"])
    if path.is_file():
        return digest_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    return fingerprint({str(file.relative_to(path)): file.stat().st_size for file in files})
