"""Programs in forked processes that a signal strikes at the n-th call of a function."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.util import _exit_function
from pathlib import Path
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Strike:
    """A signal that a process sends itself just before the n-th call of a method, or within it."""

    place: type
    method: str
    call: int
    signum: int = signal.SIGTERM


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (negative for a killing signal), time, and last words."""

    code: int
    seconds: float
    said: str


def compose(main: Callable[[], None], words: Sequence[str]) -> None:
    """Compose the settings of a program here: its forks find them merged (`composing.py`)."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["program.py", *words, "--cfg", "job"])
        main()


def fork(
    main: Callable[[], None], words: Sequence[str], log: Path, strike: Strike | None = None
) -> int:
    """Run a program in a fork of this process, which has loaded everything; return its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.argv = ["program.py", *words]
        if strike is not None:
            arm(strike)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        _exit_function()  # ends loader processes, as the interpreter does
        os._exit(code)


def arm(strike: Strike) -> None:
    """Let the method send the signal."""
    method: Callable[..., Any] = getattr(strike.place, strike.method)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == strike.call:
            os.kill(os.getpid(), strike.signum)
        return method(*args, **kwargs)

    setattr(strike.place, strike.method, counted)


def wait(pid: int, log: Path, limit: float = 120) -> Ended:
    """Wait for a program to end; kill it past the limit."""
    started = time.monotonic()
    while time.monotonic() - started < limit:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return Ended(code, time.monotonic() - started, log.read_text(errors="replace"))
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"no end within {limit} s:\n{log.read_text(errors='replace')}")


def run_forked(
    main: Callable[[], None], words: Sequence[str], log: Path, strike: Strike | None = None
) -> Ended:
    """Run a program in a fork and wait for it."""
    return wait(fork(main, words, log, strike), log)


def read_products(work: Path) -> dict[str, bytes]:
    """Read what a run made: masks, superpixels, scores, learned tensors; no pictures of them."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.suffix == ".ckpt":
            state = torch.load(path, weights_only=True)["state_dict"]
            found[name] = b"".join(v.numpy().tobytes() for v in state.values())
        elif "pictures" in path.parts:
            continue
        elif path.suffix in (".png", ".npz") or path.name in ("scores.json", "labels.csv"):
            found[name] = path.read_bytes()
    return found
