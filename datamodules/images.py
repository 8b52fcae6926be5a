"""Find images in folders and name them; `fmawsss.files.images` reads them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from fmawsss.files.images import SUFFIXES
from fmawsss.files.texts import has_unseen

LONGEST_PART = 200  # bytes of a file's name; file systems allow 255, and suffixes are added


def index_images(folder: Path) -> dict[str, Path]:
    """Map the names of the images directly in a folder, without suffix, to their files.

    Raises FileNotFoundError for no such folder, and ValueError when two files share a name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; it should hold the images")
    with os.scandir(folder) as entries:
        return name_files(folder, (Path(entry.path) for entry in entries))


def name_files(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Map names to images; other files are left out. A name is the path below `root`, no suffix."""
    named: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue

        # a name can be written down, and stands for one image
        name = strip_suffix(file.relative_to(root).as_posix())
        if has_unseen(name):
            raise ValueError(
                f"the file {str(file)!r} cannot be named in lists: rename it, in UTF-8 and without "
                "line ends"
            )
        if name in named:
            raise ValueError(
                f"{named[name]} and {file} share the name {name!r}; rename one of them"
            )
        named[name] = file
    return named


def strip_suffix(name: str) -> str:
    """Take the suffix of an image kind off a file name; other dots stay.

    >>> strip_suffix("a/b.v2.JPG"), strip_suffix("b.v2")
    ('a/b.v2', 'b.v2')
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name


def list_stems(folder: Path, suffix: str) -> set[str]:
    """List the files with a suffix anywhere below a folder, as paths without that suffix."""
    ending = len(suffix)
    found: set[str] = set()
    for parent, _, files in os.walk(folder):
        place = Path(parent).relative_to(folder)
        found.update((place / file[:-ending]).as_posix() for file in files if file.endswith(suffix))
    return found


def check_inner_path(name: str, where: str) -> str:
    """Return a path that a file names; raises ValueError, saying `where`, if it leaves its folder.

    >>> check_inner_path("a/b.jpg", "the list")
    'a/b.jpg'
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not posix.name or posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(
            f"{where} is {reprlib.repr(name)}, expected a path below the folder of images"
        )
    if has_unseen(name) or "\\" in name:
        raise ValueError(
            f"{where} is {reprlib.repr(name)}: write it without control characters, and with / "
            "between folders"
        )
    if max(len(part.encode()) for part in posix.parts) > LONGEST_PART or len(name) > 1000:
        raise ValueError(
            f"{where} is {reprlib.repr(name)}: shorten it, a file's name has at most "
            f"{LONGEST_PART} bytes"
        )
    return name
