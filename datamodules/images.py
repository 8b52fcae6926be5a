"""Find images in folders and name them; `fmawsss.files.images` reads them."""

from __future__ import annotations

import logging
import os
import reprlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from fmawsss.files.images import SUFFIXES
from fmawsss.files.json_files import many_objects
from fmawsss.files.texts import compose, has_unseen

logger = logging.getLogger(__name__)

LONGEST_STEM = 250  # bytes of an image's name: 255 with the longest ending, .webp
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
    """Map names to images; other files are left out. A name is the path below `root`, no suffix.

    Raises ValueError for names that cannot be written down, are too long, or stand for two images.
    """
    named: dict[str, Path] = {}
    composed: dict[str, Path] = {}
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
        if len(os.fsencode(file.stem)) > LONGEST_STEM:
            raise ValueError(
                f"the name of {str(file)!r} has {len(os.fsencode(file.stem))} bytes, at most "
                f"{LONGEST_STEM} leave room for the endings of what is made of it: shorten it"
            )
        other = composed.setdefault(compose(name), file)
        if other != file:
            raise ValueError(f"{other} and {file} share the name {name!r}; rename one of them")
        named[name] = file
    return named


@dataclass
class Walk:
    """A walk through the files below a folder, linked ones too, except in hidden folders.

    left_out: resolved folders that are not entered. A link to a folder around it is not followed.
    skipped: the folders that were not entered so far, hidden ones included.
    """

    left_out: Container[Path] = ()
    skipped: list[Path] = field(default_factory=list)

    def list_files(self, root: Path) -> Iterator[Path]:
        """Walk; raises OSError for a folder that cannot be read."""
        return self._enter(root, (root.resolve(),))

    def _enter(self, folder: Path, around: tuple[Path, ...]) -> Iterator[Path]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise OSError(
                f"{folder} cannot be read ({error.strerror}): allow it, or set dataset.root "
                "elsewhere"
            ) from error
        for entry in entries:
            path = Path(entry.path)
            link = entry.is_symlink()
            if not (path.is_dir() if link else entry.is_dir()):  # a link may lead in a circle
                yield path
                continue
            inner = path.resolve() if link else around[-1] / entry.name
            if entry.name.startswith(".") or inner in self.left_out or inner in around:
                self.skipped.append(path)
            else:
                yield from self._enter(path, (*around, inner))


@many_objects()
def index_masks(folder: Path) -> dict[str, Path]:
    """Map names to the PNG files anywhere below a folder; names are composed. Others are told.

    Raises ValueError when two masks share a name.
    """
    masks: dict[str, Path] = {}
    others: list[Path] = []
    around = len(folder.parts)
    for file in Walk().list_files(folder) if folder.is_dir() else ():
        if file.suffix.lower() != ".png":
            others.append(file)
            continue
        name = compose("/".join(file.parts[around:])[:-4])
        if masks.setdefault(name, file) is not file:
            raise ValueError(f"{masks[name]} and {file} share the name {name!r}; rename one")
    if others:
        tell(f"{folder}: {len(others)} files are no masks (.png): {count_endings(others)}")
    return masks


@cache
def tell(message: str) -> None:
    """Say what is left out, or read otherwise than it stands there, once in a run."""
    logger.info("%s", message)


def count_endings(files: Iterable[Path]) -> str:
    """Count files by their endings, the commonest first; hidden ones are one kind."""
    counts = Counter(
        "hidden (the name begins with a dot)"
        if file.name.startswith(".")
        else file.suffix.lower() or "without ending"
        for file in files
    )
    common = sorted(counts.items(), key=lambda found: (-found[1], found[0]))[:8]
    return ", ".join(f"{count} {ending}" for ending, count in common)


def find_name(written: str, images: Container[str], composed: Mapping[str, str]) -> str:
    """Return the name of the image that a person wrote, with or without suffix, else what it says.

    Names are compared as they are, then without space around them, then in their composed form
    (`compose_names` gives `composed`): a Mac writes an é otherwise than a spreadsheet.
    """
    stripped = written.strip()
    tried = [written, strip_suffix(written), stripped, strip_suffix(stripped)]
    found = next((name for name in tried if name in images), None)
    known = (composed[compose(name)] for name in tried if compose(name) in composed)
    return found if found is not None else next(known, tried[-1])


def compose_names(names: Iterable[str]) -> dict[str, str]:
    """Map the composed form of names to the names."""
    return {compose(name): name for name in names}


def strip_suffix(name: str) -> str:
    """Take the suffix of an image kind off a file name; other dots stay.

    >>> strip_suffix("a/b.v2.JPG"), strip_suffix("b.v2")
    ('a/b.v2', 'b.v2')
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name


def find_list(split: str) -> Path | None:
    """Return the file of image names that a split is, `split=lists/few.txt`; None for a name.

    Raises FileNotFoundError when there is none.
    """
    if not split.endswith(".txt"):
        return None
    if not Path(split).is_file():
        raise FileNotFoundError(
            f"split={split}: there is no such list; write one image name per line, or name a split"
        )
    return Path(split)


def list_stems(folder: Path, suffix: str) -> set[str]:
    """List the files with a suffix anywhere below a folder, as paths without that suffix.

    Raises ValueError when another file differs from one of them by the capitals of its suffix.
    """
    ending = len(suffix)
    found: set[str] = set()
    seen: dict[str, tuple[str, ...]] = {str(folder): (os.path.realpath(folder),)}
    for parent, folders, files in os.walk(folder, followlinks=True):
        place = Path(parent).relative_to(folder)
        found.update((place / file[:-ending]).as_posix() for file in files if file.endswith(suffix))

        # another file of the same name
        for file in files:
            twin = file[:-ending] + suffix
            if file != twin and file.lower().endswith(suffix) and twin in files:
                raise ValueError(
                    f"{Path(parent) / twin} and {Path(parent) / file} share a name; remove one"
                )

        # a link to a folder around it is not followed
        around = seen.pop(parent)
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}  # noqa: PTH118
        folders[:] = [name for name in folders if real[name] not in around]
        seen.update({os.path.join(parent, name): (*around, real[name]) for name in folders})  # noqa: PTH118
    return found


def name_alike(path: Path) -> str:
    """Say what stands in the place of a missing file, nothing where nothing does.

    That is a link that leads nowhere, or a name that differs by capitals or the form of Unicode.
    """
    if path.is_symlink():
        return f"; it is a link to {path.readlink()}, where no file is: remove it, or link it anew"
    try:
        alike = [
            e.name for e in os.scandir(path.parent) if fold_name(e.name) == fold_name(path.name)
        ]
    except OSError:
        return ""
    same = "differs by capitals, or by the form of its letters (NFC, NFD)"
    return f"; {path.with_name(alike[0])} is there, which {same}: rename it" if alike else ""


def fold_name(name: str) -> str:
    """Return what names have in common that differ by capitals or by the form of Unicode."""
    return compose(compose(name).casefold())


def list_lost(found: Iterable[str], images: Iterable[str], others: Iterable[str]) -> list[str]:
    """List the found names that are neither images nor `others`, which are listed if needed.

    Behind a name stands the image whose name differs by capitals or the form of Unicode, if any.
    """
    names, labelled = set(images), set(found)
    if labelled <= names:
        return []
    alike = {fold_name(name): name for name in names - labelled}
    meant = {name: alike.get(fold_name(name)) for name in (labelled - names).difference(others)}
    return sorted(f"{name} (is it {other}?)" if other else name for name, other in meant.items())


def find_missing(files: Sequence[Path | str]) -> list[Path]:
    """List those of some files that are not there; each of their folders is listed once."""
    places = [os.path.split(file) for file in files]
    present: dict[str, set[str]] = {}
    for folder in {folder for folder, _ in places}:
        present[folder] = set()
        with suppress(OSError), os.scandir(folder or ".") as entries:
            present[folder] = {entry.name for entry in entries if not entry.is_symlink()}

    # a link may lead nowhere, and a disk may know one name in several forms
    unseen = [Path(folder, name) for folder, name in places if name not in present[folder]]
    return [path for path in unseen if not path.exists()]


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
