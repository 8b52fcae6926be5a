"""Trusted masks on disk: what a person has corrected, made by `python infer.py task=corrections`.

The folder holds an indexed PNG of each corrected image, 255 where nobody has touched it; its record
says for which classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from fmawsss.files.contents import Made
from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.json_files import write_json
from fmawsss.files.png import read_mask
from fmawsss.files.products import RECORD_VERSION, read_record

KIND = "corrections"
MAKE = "make one with `python infer.py task=corrections corrected=FILE`, and name that folder"


@dataclass(frozen=True)
class TrustedMasks:
    """The trusted masks of a folder, by the names of their images."""

    folder: Path

    @cached_property
    def _made(self) -> Made:
        return Made(self.folder, ".png")

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def read(self, name: str) -> UInt8[Tensor, "H W"] | None:
        """Read the mask of an image; None for one that nobody corrected."""
        if name not in self:
            return None
        return torch.from_numpy(read_mask(self._made.place(name)))


def open_corrected(folder: Path, classes: Sequence[str]) -> TrustedMasks:
    """Open a folder of trusted masks of these classes.

    Raises:
        ValueError: for another folder or file, and for masks of other classes.
    """
    record = read_record(folder) if folder.is_dir() else None
    if record is None or record["settings"].get("kind") != KIND:
        what = "a file" if folder.is_file() else "no folder of trusted masks"
        raise ValueError(f"corrected={folder} is {what}, expected a folder of them: {MAKE}")
    known = record["settings"]["classes"]
    if known != list(classes):
        raise ValueError(
            f"{folder} was made for the classes {', '.join(known)}, the data set has "
            f"{', '.join(classes)}: {MAKE}, with a paths.work of its own"
        )
    return TrustedMasks(folder)


def count_corrected(folder: Path) -> int:
    """Return how many images a folder of trusted masks holds, as its record says."""
    record = read_record(folder)
    return 0 if record is None else int(record["settings"].get("images", 0))


def record_corrected(folder: Path, classes: Sequence[str], digests: Mapping[str, str]) -> None:
    """Record a folder as complete: its content, by the digest of each image's mask, and classes."""
    settings = {"kind": KIND, "classes": list(classes), "images": len(digests)}
    known = {"version": RECORD_VERSION, "parts": {}, "upstream": {}}
    content = fingerprint({"settings": settings, "masks": dict(sorted(digests.items()))})
    record = {**known, "fingerprint": content, "settings": settings}
    write_json(folder.with_name(f"{folder.name}.json"), record)
