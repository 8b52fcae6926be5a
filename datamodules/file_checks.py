"""Preflight of files: their heads and tails tell in seconds what would fail after hours."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from fmawsss.files.contents import ENDS, TAIL
from fmawsss.files.images import measure_head, read_size, try_image
from fmawsss.files.json_files import REMAKE
from fmawsss.files.listing import Fact, Stamp, current, work_in_parts
from fmawsss.files.png import GREY, INDEXED, read_mask
from fmawsss.files.storage import BROKEN_ARCHIVE
from fmawsss.records import ImageRecord

PNG_SIGNATURE = b"\x89PNG"
PNG_HEAD = 26  # bytes: signature, size, depth and colour type
HEAD = 4096  # bytes, in which most JPEGs say how large they are
Check: TypeAlias = Callable[..., object]


def check_images(records: Sequence[ImageRecord]) -> None:
    """Raise ValueError for a JPEG or PNG that is cut off; other kinds are not looked at."""
    check_each(check_image_file, ((record.image_file,) for record in records))


def check_masks(records: Sequence[ImageRecord], masks: Sequence[str]) -> None:
    """Raise ValueError for a mask that is cut off, no mask, or of another size than its image."""
    check_each(check_mask_file, zip(masks, (record.image_file for record in records), strict=True))


def check_archives(records: Sequence[ImageRecord], archives: Sequence[str]) -> None:
    """Raise ValueError for a file that is no whole npz; what it holds is not read."""
    check_each(check_archive, ((archive,) for archive in archives))


def check_each(check: Check, items: Iterable[tuple[str, ...]]) -> None:
    """Check many files at once; raises ValueError with the first fault and the number of others."""
    found = work_in_parts(partial(find_file_fault, check), list(items), "checked")
    if faults := [fault for fault in found if fault]:
        others = f"\nand {len(faults) - 1} more such files" if len(faults) > 1 else ""
        raise ValueError(faults[0] + others)


def find_file_fault(check: Check, paths: tuple[str, ...]) -> str:
    """Return what a check says of its files, nothing for good ones."""
    try:
        check(*paths)
    except FileNotFoundError as error:
        where = f"{error.filename} is not there, or a link that leads nowhere: make it, or take it"
        return str(error) if error.filename is None else f"{where} away"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{paths[0]} cannot be read: {error.strerror}; copy it again, or allow it"
    return ""


def check_image_file(file: Path | str) -> Fact:
    """Check the end of an image, unless it was found good before; a JPEG is measured as well."""
    stamp = current().ask(file)
    if (known := current().recall("image", file, stamp)) is not None:
        return known
    path, size = Path(file), None
    if path.suffix.lower() in ENDS:
        head = check_ends(path, stamp.size, read_whole=try_image)
        size = measure_head(head)
    return current().note("image", path, Fact(*stamp, *(size or (0, 0))))


def check_ends(path: Path, size: int, read_whole: Callable[[Path], object]) -> bytes:
    """Read the head of a file, and look for the mark that ends it.

    Without the mark `read_whole` says what is wrong.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        head = os.pread(file, HEAD, 0)
        tail = head if size <= HEAD else os.pread(file, TAIL, size - TAIL)
    finally:
        os.close(file)
    if path.suffix.lower() in ENDS and ENDS[path.suffix.lower()] not in tail[-TAIL:]:
        read_whole(path)
    return head


def measure_image(path: Path | str) -> tuple[int, int]:
    """Return the height and width of an upright picture; it is opened unless they are known."""
    stamp = current().ask(path)
    known = current().recall("image", path, stamp)
    if known is not None and known.height:
        return known.height, known.width
    size = read_size(Path(path))
    if known is not None:
        current().note("image", path, Fact(*stamp, *size))
    return size


def measure_images(paths: Sequence[Path | str]) -> list[tuple[int, int]]:
    """Measure many images at once."""
    return work_in_parts(measure_image, paths, "measured")


def check_mask_file(mask: Path | str, image: Path | str) -> None:
    """Check the end and the kind of a mask, and its size against that of its image."""
    stamp = current().ask(mask)
    known = current().recall("mask", mask, stamp) or read_mask_head(Path(mask), stamp)
    if (size := measure_image(image)) != known[2:]:
        check_mask_size(Path(mask), read_mask(Path(mask)).shape, size)


def read_mask_head(mask: Path, stamp: Stamp) -> Fact:
    """Check the end and the kind of a mask, and return its size."""
    head = check_ends(mask, stamp.size, read_whole=read_mask)[:PNG_HEAD]
    if len(head) < PNG_HEAD or not head.startswith(PNG_SIGNATURE):
        read_mask(mask)
    width, height, depth, colour = struct.unpack(">16xIIBB", head)
    if colour != INDEXED and (colour, depth) != (GREY, 8):
        read_mask(mask)
    return current().note("mask", mask, Fact(*stamp, height, width))


def check_mask_size(mask: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise ValueError unless a mask has the size (height, width) of its image."""
    if found != size:
        raise ValueError(
            f"mask {mask} has the size {found}, its image {size} (height, width); make the mask "
            "again from this image"
        )


def check_archive(path: Path | str) -> None:
    """Read the table of contents, which stands at the end of an npz, unless it was good before."""
    stamp = current().ask(path)
    if current().recall("archive", path, stamp) is not None:
        return
    try:
        zipfile.ZipFile(path).close()
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} is broken or no npz archive ({error}): {REMAKE}") from error
    current().note("archive", Path(path), Fact(*stamp, 0, 0))
