"""One process at a time writes a product: others are told who does, or wait for a moment.

A lock is a small file beside the product, renewed while its holder lives. That of a dead process of
this machine is taken over at once, that of another machine or container once it was not renewed for
`LEASE` seconds: so it holds on network file systems, too, without locks of the kernel.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from glob import escape
from pathlib import Path

from filelock import SoftFileLease, Timeout

from fmawsss.files.json_files import read_json, write_json

logger = logging.getLogger(__name__)

LEASE = 30.0  # seconds


class Busy(RuntimeError):
    """Another process works on a product."""


def place_lock(path: Path, share: int | None = None) -> Path:
    """Name the lock of a file or folder, or of one of several processes that make it together.

    >>> place_lock(Path("outputs/superpixels"), 3).as_posix()
    'outputs/.superpixels.3.lock'
    """
    part = "" if share is None else f".{share}"
    return path.with_name(f".{path.name}{part}.lock")


def list_locks(path: Path) -> list[Path]:
    """List the locks of all processes that make a file or folder together."""
    return sorted(path.parent.glob(f".{escape(path.name)}.[0-9]*.lock"))


@contextmanager
def hold_lock(lock: Path, what: Path, setting: str) -> Iterator[None]:
    """Hold a lock while working on something.

    Raises:
        Busy: naming process, machine and time of who holds it, and the setting that goes elsewhere.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(lock, lease_duration=LEASE, on_compromise=report_loss)
    owner = lock.with_name(f"{lock.name}.json")
    try:
        acquire(lease, lock, owner)
    except Timeout:
        raise Busy(
            f"{what}: another run works on it ({describe_owner(owner)}); wait for it, end it, or "
            f"choose another folder with {setting}=DIR"
        ) from None
    mine = describe_process()
    try:
        write_json(owner, mine)
        yield
    finally:  # a full disk or lost folder is the first error, not the second one
        with suppress(OSError, ValueError):
            if read_json(owner) == mine:  # nobody took over
                owner.unlink()
        with suppress(OSError):
            lease.release()


@contextmanager
def wait_lock(path: Path) -> Iterator[None]:
    """Wait until no other process changes a small file, and keep others waiting meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with SoftFileLease(place_lock(path), lease_duration=LEASE, poll_interval=0.02):
        yield


def acquire(lease: SoftFileLease, lock: Path, owner: Path) -> None:
    """Acquire a lock at once, or after watching one that looks dead where it was set.

    Clocks of machines differ: a time in the future tells as little as one long ago.

    Raises:
        Timeout: when it is held.
    """
    with suppress(Timeout):
        lease.acquire(timeout=0)
        return

    # Another machine's, or another container's
    patience = 0.0
    with suppress(OSError):
        silent = abs(time.time() - lock.stat().st_mtime)
        if silent > LEASE:
            patience = LEASE + 5
            logger.warning(
                "%s seems not to have been renewed for %d s (%s): it is taken over unless it is "
                "renewed within %d s", lock, silent, describe_owner(owner), LEASE,
            )  # fmt: skip
    lease.acquire(timeout=patience)


def describe_process() -> dict[str, int | str]:
    """Describe this process for those who wait for it."""
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def describe_owner(owner: Path) -> str:
    """Say who holds a lock."""
    try:
        found = read_json(owner)
        return f"process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it just began"


def report_loss(loss: object) -> None:
    """End this run as a signal does: another may have taken its lock over, and work on the same."""
    logger.error("the lock was lost, another run may work in the same folder: %s", loss)
    if callable(signal.getsignal(signal.SIGTERM)):
        os.kill(os.getpid(), signal.SIGTERM)
