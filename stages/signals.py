"""SIGTERM and Ctrl-C end any run soon: what is complete is kept, one line says how to go on.

A signal raises `Stopped` wherever the main thread is. What must not be cut in two, a step of the
optimiser, holds it back for a moment. What does not end by itself, or hangs inside a library where
Python runs no handler, is ended after `PATIENCE`, and at once by a second signal: all files are
written whole or not at all.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType
from typing import Any

PATIENCE = 9.0  # seconds from the signal to the end
TWICE = 1.0  # seconds in which a signal that comes again, by way of its group, is the same one
PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends
LEADER = "FMAWSSS_LEADER"  # the process that started the others of a training, in their environment
REQUEUE = "SIGUSR1"  # SLURM sends it before the time is over: sbatch --signal=USR1@90 --requeue


class Stopped(SystemExit):
    """A run was stopped by a signal; `notes` say where, in the words of what was going on."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.name = signal.Signals(signum).name

    def __str__(self) -> str:
        where = "".join(f" in {note}" for note in getattr(self, "__notes__", [])[:1])
        return f"stopped by {self.name}{where}; {describe_remedy(sys.argv, self.name)}"


class Guard:
    """What came of signals in this process; one object, since signals are the process's own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.active = self.held = self.told = False
        self.stopped: Stopped | None = None
        self.came = 0.0

    def answer(self, signum: int, frame: FrameType | None) -> None:
        """Stop the run; a second signal ends the process at once."""
        if self.stopped is not None:
            if time.monotonic() - self.came > TWICE:
                self.end()
            return
        self.stopped, self.came = Stopped(signum), time.monotonic()
        if self.active and not self.held:
            raise self.stopped

    def hold(self) -> None:
        """Hold signals back."""
        self.held = True

    def release(self) -> None:
        """Let signals through again; raises what came in the meantime."""
        self.held = False
        if self.stopped is not None:
            raise self.stopped

    def conclude(self) -> None:
        """Say how to go on, once; have SLURM start the job again where it asked to be told."""
        if self.told or self.stopped is None:
            return
        self.told = True
        with suppress(OSError, ValueError):  # a terminal that is gone
            sys.stderr.write(f"{self.stopped}\n")
            sys.stderr.flush()
        if self.stopped.name == REQUEUE and os.environ.get("SLURM_PROCID", "0") == "0":
            requeue_job()

    def watch(self, pipe: int, signums: Collection[int]) -> None:
        """End the process when it does not end in time after a signal, or when it comes again."""
        first, came = None, 0.0
        while first is None or time.monotonic() - came < PATIENCE:
            ready, *_ = select.select([pipe], [], [], None if first is None else 0.1)
            heard = os.read(pipe, 1) if ready else bytes(1)
            if not heard:  # the program ended without any
                return os.close(pipe)
            if heard[0] not in signums:
                continue
            if first is not None and time.monotonic() - came > TWICE:
                break
            if first is None:
                first, came = heard[0], time.monotonic()
        self.stopped = self.stopped or Stopped(first)
        self.end()

    def end(self) -> None:
        """End the process here; processes that belong to it follow."""
        assert self.stopped is not None
        self.conclude()
        os._exit(int(str(self.stopped.code)))


GUARD = Guard()


@contextmanager
def answer_signals() -> Iterator[None]:
    """Answer signals while a program runs, unless that is done already.

    Handlers that somebody else set, such as submitit's, stay. The other processes of a training on
    several devices leave signals to the first one, and end with it.
    """
    if GUARD.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    if is_follower():
        follow_parent()
        yield
        return

    # Ours in place of Python's
    GUARD.forget()
    os.environ[LEADER] = str(os.getpid())
    before = {signum: signal.getsignal(signum) for signum in list_signals()}
    try:
        with watch_signals(before):
            GUARD.active = True
            for signum in before:
                signal.signal(signum, GUARD.answer)
            yield
    except BaseException:  # after a signal, whatever else fails is a consequence
        if GUARD.stopped is None:
            raise
    finally:
        GUARD.active = False
        for signum, handler in before.items():
            signal.signal(signum, handler)
        os.environ.pop(LEADER, None)
    if GUARD.stopped is not None:
        GUARD.conclude()
        leave_group()
        raise GUARD.stopped from None


@contextmanager
def watch_signals(signums: Collection[int]) -> Iterator[None]:
    """Have a thread hear of signals, which runs while the main thread is inside a library.

    Other systems than POSIX offer this for sockets only.
    """
    if os.name != "posix":
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=GUARD.watch, args=(reader, signums), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        if GUARD.stopped is None:  # else its end is watched, too
            os.close(writer)


def leave_wakeups() -> None:
    """Leave the signals of a forked process out of what its parent hears."""
    signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_wakeups)


def answer_alone(trainer: Any) -> Any:
    """Keep a trainer from answering signals itself.

    Lightning's handler has all processes of a training meet within the handler, while the others
    are in the middle of a step: they wait for each other without end. It has no setting for this.
    """
    trainer._signal_connector.register_signal_handlers = do_nothing
    return trainer


def do_nothing() -> None:
    """Take the place of what is not wanted."""


def list_signals() -> list[signal.Signals]:
    """List the signals to answer: those that nobody else answers."""
    wanted = [signal.SIGINT, signal.SIGTERM]
    if "SLURM_JOB_ID" in os.environ and hasattr(signal, REQUEUE):
        wanted.append(signal.Signals[REQUEUE])
    unset = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    return [signum for signum in wanted if signal.getsignal(signum) in unset]


def is_follower() -> bool:
    """Say whether the first process of a training started this one."""
    elsewhere = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & os.environ.keys()
    return int(os.environ.get("LOCAL_RANK", "0")) > 0 and not elsewhere


def follow_parent() -> None:
    """Leave signals to the process that started this one, and end when it is gone, or was."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    watch_parent(read_leader())


def follow_sweep() -> None:
    """End this process when the sweep is gone that started it, as a launcher does for its jobs."""
    if os.environ.get(LEADER) == str(os.getppid()):
        watch_parent(os.getppid())


def read_leader() -> int:
    """Return the process that started this one; it may be gone by now."""
    return int(os.environ.get(LEADER, os.getppid()))


@cache
def watch_parent(parent: int) -> None:
    """End this process once its parent is another one, from now on."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    """End this process once its parent is another one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def leave_group() -> None:
    """End the first of several processes here: the others would wait for it in vain."""
    torch = sys.modules.get("torch")  # a program that ends early never loads it
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        logging.shutdown()
        sys.stdout.flush()
        GUARD.end()


def requeue_job() -> None:
    """Ask SLURM to start this job again."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=5, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"scontrol requeue {job} failed ({error}): start the job again\n")


def describe_remedy(words: list[str], name: str) -> str:
    """Say how to go on.

    >>> describe_remedy(["train.py", "task=cls", "overwrite=true"], "SIGTERM")
    'the same command without overwrite=true goes on'
    """
    if name == REQUEUE:
        return "SLURM was asked to start the job again"
    anew = [word for word in words if word.partition("=")[0] in ("overwrite", "options.overwrite")]
    return f"the same command{''.join(f' without {word}' for word in anew)} goes on"
