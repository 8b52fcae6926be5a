"""The jobs of a sweep on disk: a folder each, whose `job.json` says what it is and how it ended."""

from __future__ import annotations

import logging
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fmawsss.files.json_files import read_json, write_json
from fmawsss.files.locks import hold_lock
from stages.failures import explain
from stages.signals import follow_sweep

logger = logging.getLogger(__name__)

STARTED, FINISHED, FAILED = "started", "finished", "failed"
SWEEP_FILE = "sweep.json"  # what a sweep says about itself


@dataclass(frozen=True)
class Job:
    """One job of a sweep; a killed one stays `started`."""

    number: int  # and the name of its folder
    overrides: tuple[str, ...]
    digest: str  # of its composed config: the same job of another invocation is the same job
    status: str = STARTED
    value: float | None = None  # what the sweep maximises; None where nothing was measured
    error: str | None = None
    seconds: float | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as key → value, both as typed."""
        return dict(override.partition("=")[::2] for override in self.overrides)

    @property
    def reason(self) -> str:
        """The error of a failed job in one line; `job.json` and the job's log have all of it."""
        return textwrap.shorten(self.error or "", 300)


def read_jobs(folder: Path) -> list[Job]:
    """Read the jobs of a sweep, by number."""
    jobs = [read_job(path.parent) for path in folder.glob("*/job.json")]
    return sorted(jobs, key=lambda job: job.number)


def read_job(folder: Path) -> Job:
    """Read the job of one folder."""
    entries = read_json(folder / "job.json")
    return Job(**{**entries, "overrides": tuple(entries["overrides"])})


def write_job(folder: Path, job: Job) -> None:
    """Write the job of one folder."""
    write_json(folder / "job.json", asdict(job))


def find_varied(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """List the settings in which the jobs differ, and the values of each.

    Numbers stand in order, words as they came.
    """
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    values = {key: list(dict.fromkeys(job.settings.get(key, "") for job in jobs)) for key in keys}
    return {key: sort_values(found) for key, found in values.items() if len(found) > 1}


def sort_values(values: Sequence[str]) -> list[str]:
    """Sort numbers by size; leave anything else in its order."""
    return sorted(values, key=float) if all(map(is_number, values)) else list(values)


def is_number(text: str) -> bool:
    """Say whether a value of a setting is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def enter_jobs(folder: Path, wanted: Sequence[tuple[Sequence[str], str]]) -> list[Job]:
    """Find the jobs of the given (overrides, digest); enter new ones under the next numbers."""
    known = {job.digest: job for job in read_jobs(folder)}
    for overrides, digest in wanted:
        if digest not in known:
            number = max((job.number for job in known.values()), default=-1) + 1
            known[digest] = Job(number, tuple(overrides), digest)
            write_job(folder / str(number), known[digest])
    return [known[digest] for _, digest in wanted]


def record_job(folder: Path, task: Callable[[], float | None]) -> float | None:
    """Run a job and record how it ended; an error is recorded, logged, and stops no other job."""
    # enter its start
    follow_sweep()
    start = time.monotonic()
    job = replace(read_job(folder), status=STARTED, value=None, error=None)
    write_job(folder, job)

    # run it
    try:
        value = task()
        ended = replace(job, status=FINISHED, value=None if value is None else float(value))
    except Exception as error:
        logger.error("job %d failed: %s", job.number, " ".join(explain(error)))
        ended = replace(job, status=FAILED, error=f"{type(error).__name__}: {error}")

    # enter its end
    write_job(folder, replace(ended, seconds=round(time.monotonic() - start, 1)))
    return ended.value


def refuse_failures(folder: Path) -> list[Job]:
    """Return the jobs of a sweep; raise RuntimeError if some failed or left no record."""
    jobs = read_jobs(folder)
    failed = [job for job in jobs if job.status != FINISHED]
    if not failed:
        return jobs
    lines = [f"{len(failed)} of {len(jobs)} jobs failed, the others are done; see {folder}"]
    for job in failed:
        reason = job.reason or "ended without a record"
        lines.append(f"  job {job.number} ({' '.join(job.overrides)}): {reason}")
    raise RuntimeError("\n".join(lines))


@contextmanager
def lock_sweep(folder: Path) -> Iterator[None]:
    """Keep a sweep folder to one process; raises Busy when another one is at it."""
    with hold_lock(folder / ".lock", folder, "hydra.sweep.dir"):
        yield


@contextmanager
def claim_gpu(folder: Path, gpus: Sequence[int]) -> Iterator[int]:
    """Hold one GPU that no other job of the sweep holds, waiting where all are taken."""
    while (lock := _lock_any(folder, gpus)) is None:
        time.sleep(1)
    try:
        yield int(Path(lock.lock_file).suffix[1:])
    finally:
        lock.release()


def _lock_any(folder: Path, gpus: Sequence[int]) -> FileLock | None:
    for gpu in gpus:
        lock = FileLock(folder / f".gpu.{gpu}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return lock
    return None
