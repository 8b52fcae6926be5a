"""Preflight of files: their heads and tails tell in seconds what would fail after hours."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

from fmawsss.files.contents import ENDS, has_end
from fmawsss.files.images import read_size, stamp_file, try_image
from fmawsss.files.json_files import REMAKE
from fmawsss.files.png import GREY, INDEXED, read_mask
from fmawsss.files.storage import BROKEN_ARCHIVE
from fmawsss.records import ImageRecord

PNG_SIGNATURE = b"\x89PNG"
PNG_HEAD = 26  # bytes: signature, size, depth and colour type
Check: TypeAlias = Callable[..., None]


def check_images(records: Sequence[ImageRecord]) -> None:
    """Raise ValueError for a JPEG or PNG that is cut off; other kinds are not looked at."""
    check_each(check_image_file, ((record.image,) for record in records))


def check_masks(records: Sequence[ImageRecord], masks: Sequence[Path]) -> None:
    """Raise ValueError for a mask that is cut off, no mask, or of another size than its image."""
    check_each(check_mask_file, zip(masks, (record.image for record in records), strict=True))


def check_archives(records: Sequence[ImageRecord], archives: Sequence[Path]) -> None:
    """Raise ValueError for a file that is no whole npz; what it holds is not read."""
    check_each(check_archive, ((archive,) for archive in archives))


def check_each(check: Check, items: Iterable[tuple[Path, ...]]) -> None:
    """Check many files at once; raises ValueError with the first fault and the number of others."""
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(partial(find_file_fault, check), items) if fault]
    if faults:
        others = f"\nand {len(faults) - 1} more such files" if len(faults) > 1 else ""
        raise ValueError(faults[0] + others)


def find_file_fault(check: Check, paths: tuple[Path, ...]) -> str:
    """Return what a check says of its files, nothing for good ones."""
    try:
        check_once(check, paths, tuple(map(stamp_file, paths)))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    except OSError as error:
        return f"{paths[0]} cannot be read: {error.strerror}; copy it again, or allow it"
    return ""


@cache
def check_once(check: Check, paths: tuple[Path, ...], stamps: tuple[str, ...]) -> None:
    """Check files, unless they were found good before and have the same stamps since."""
    check(*paths)


def check_image_file(path: Path) -> None:
    """Check the end of an image."""
    check_end(path, read_whole=try_image)


def check_end(path: Path, read_whole: Callable[[Path], object]) -> None:
    """Look for the mark that ends a file; without it, `read_whole` says what is wrong."""
    if path.suffix.lower() in ENDS and not has_end(path, path.stat().st_size):
        read_whole(path)


def check_mask_file(mask: Path, image: Path) -> None:
    """Check the end and the kind of a mask, and its size against that of its image."""
    check_end(mask, read_whole=read_mask)
    with mask.open("rb") as file:
        head = file.read(PNG_HEAD)
    if len(head) < PNG_HEAD or not head.startswith(PNG_SIGNATURE):
        read_mask(mask)
    width, height, depth, colour = struct.unpack(">16xIIBB", head)
    if colour != INDEXED and (colour, depth) != (GREY, 8):
        read_mask(mask)
    if (size := read_size(image)) != (height, width):
        check_mask_size(mask, read_mask(mask).shape, size)


def check_mask_size(mask: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise ValueError unless a mask has the size (height, width) of its image."""
    if found != size:
        raise ValueError(
            f"mask {mask} has the size {found}, its image {size} (height, width); make the mask "
            "again from this image"
        )


def check_archive(path: Path) -> None:
    """Read the table of contents, which stands at the end of an npz."""
    try:
        zipfile.ZipFile(path).close()
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{path} is broken or no npz archive ({error}): {REMAKE}") from error
