"""Write files whole or not at all; what a killed run left half written, the next one removes."""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def name_machine() -> str:
    """Name this machine or container: those that share a name count processes each for itself."""
    name = re.sub(r"\W", "", platform.node())[:32] or "host"
    with suppress(OSError):
        return f"{name}_{Path('/proc/self/ns/pid').stat().st_ino:x}"
    return name


HOST = name_machine()
TEMPORARY = re.compile(r"\..*?(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
DAY = 24 * 3600  # seconds, after which a file of another machine's run counts as left over
FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class Writes:
    """How many files this process wrote: what it knows of files may be old when there are more."""

    done = 0


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Hand out a temporary name beside `path`, which becomes `path` on success alone.

    The file and its folder are on the disk when this ends.

    Raises:
        OSError: naming the folder, when it is full or may not be written, or stands in the way.
    """
    path = Path(path)
    with name_folder(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OSError(
                f"{path} is a folder where a file belongs: remove it, or choose another folder "
                "with paths.outputs=DIR"
            )
        temporary = path.with_name(name_temporary())
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
            Writes.done += 1
            sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file; what stands behind its last whole line, a kill left, is dropped.

    Raises:
        OSError: naming the folder, when it is full or may not be written.
    """
    with name_folder(path.parent), path.open("a+b") as file:
        end = file.tell()
        while end > 0:
            start = max(end - 65536, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n") + 1
            if found:
                end = start + found
                break
            end = start
        file.truncate(end)
        file.write(f"{line}\n".encode())


def name_temporary(prefix: str = "") -> str:
    """Name a hidden file or folder that says which process of which machine it belongs to."""
    return f".{prefix}{HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


def remove_leftovers(root: Path, deep: bool = False) -> None:
    """Remove temporary files and folders of runs that were killed; those of living runs stay.

    `deep` looks into the folders below as well.
    """
    for folder, folders, files in os.walk(root):
        for name in (name for name in (*folders, *files) if name.endswith(".tmp")):
            path = Path(folder, name)
            if is_left_over(path):
                remove = shutil.rmtree if path.is_dir() else os.unlink
                with suppress(FileNotFoundError):  # another process was faster
                    remove(path)
        if not deep:
            return


def is_left_over(path: Path) -> bool:
    """Say whether a path is temporary and its process is gone; elsewhere, whether it is old."""
    found = TEMPORARY.fullmatch(path.name)
    if found is None:
        return False
    if found["host"] == HOST:
        return not is_alive(int(found["pid"]))
    try:
        return time.time() - path.stat().st_mtime > DAY
    except FileNotFoundError:
        return False


def is_alive(pid: int) -> bool:
    """Say whether a process of this machine goes on."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_tensors(path: Path, content: Any) -> None:
    """Write tensors and plain data, whole or not at all, as `torch.save` does.

    Raises:
        OSError: naming the folder, when it is full or may not be written.
    """
    import torch  # takes seconds, which --help and the first line of a run do without

    with replace_file(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's writer hides what the disk said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


@contextmanager
def name_folder(folder: Path) -> Iterator[None]:
    """Let errors of a full or closed disk say which folder it is, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            free = shutil.disk_usage(find_existing(folder)).free / 1e6
            raise OSError(
                f"no room in {folder} ({free:.0f} MB free): free some, and the same command goes "
                "on; or choose another folder with paths.outputs=DIR (paths.data, "
                "cache.store.folder)"
            ) from error
        if error.errno == errno.EFBIG:
            raise OSError(
                f"a file in {folder} would be larger than files may be here (`ulimit -f`, or the "
                "file system): raise the limit, or choose another folder with paths.outputs=DIR"
            ) from error
        if error.errno in CLOSED:
            raise OSError(
                f"{folder} cannot be written ({error.strerror}): allow it, or choose another "
                "folder with paths.outputs=DIR (paths.data, cache.store.folder)"
            ) from error
        raise


def find_existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    if path.is_file() and not path.is_symlink():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(handle)
    finally:
        os.close(handle)
