"""Make the folders of a run, or say which setting moves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EFBIG
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from fmawsss.files.writing import FULL, name_folder

CONFIG = 2**16  # bytes, more than Hydra's record of a pipeline has


def make_folder(folder: str | Path, setting: str) -> str:
    """Make a folder unless it is there, and return it.

    Raises:
        OSError: naming the folder, when it cannot hold what Hydra writes there.
        ValueError: for a number, as which Hydra reads `2024_05_01`.
    """
    if not isinstance(folder, str | Path):
        raise ValueError(f"{folder}: a folder is text, expected in quotes: paths.work='\"NAME\"'")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(CONFIG))
        return str(folder)
    except OSError as error:
        if error.errno in {EFBIG, *FULL}:
            with name_folder(Path(folder)):
                raise
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): choose another folder with "
            f"{setting}=DIR"
        ) from error


def make_run_folder(folder: str | Path, setting: str, plan: object = False) -> str:
    """Make the folder that holds the runs; a plan (any value but false) gets one for a while."""
    return make_folder(folder, setting) if plan is False else open_scratch().name


@cache
def open_scratch() -> TemporaryDirectory[str]:
    """Open the folder of a plan, which is gone when the program ends, or at `closing_scratch`."""
    return TemporaryDirectory(prefix="fmawsss-plan-", ignore_cleanup_errors=True)


@contextmanager
def closing_scratch() -> Iterator[None]:
    """Remove the folder of a plan at the end, if there is one."""
    try:
        yield
    finally:
        if open_scratch.cache_info().currsize:
            open_scratch().cleanup()
            open_scratch.cache_clear()


@contextmanager
def undo_folders(folders: Iterable[Path], always: bool = False) -> Iterator[None]:
    """Take away, after a failure, those that were not there before and are empty.

    always: after a success as well.
    """
    places = {place for folder in folders for place in (folder, *folder.absolute().parents)}
    missing = [place.absolute() for place in places if not place.exists()]
    failed = True
    try:
        yield
        failed = False
    finally:  # an interrupt, too
        for place in sorted(missing, key=lambda place: len(place.parts), reverse=True):
            with suppress(OSError):
                if failed or always:
                    place.rmdir()
