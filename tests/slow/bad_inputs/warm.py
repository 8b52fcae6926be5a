"""A warm process: everything is imported once, and each command runs in a child forked from it.

It reads one request a line, `{"folder", "command", "out", "err"}`, and answers with the exit
status, negative for a signal, or null where the child was stopped at its limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CPU = 60  # seconds of the processor that a case may take
WALL = 300  # seconds of the clock, on a busy machine
MEMORY = 8 * 2**30  # bytes
OVERRIDE = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: the superuser may read and write anything
HEAVY = ("albumentations", "open_clip", "segment_anything", "torchmetrics.classification", "timm")


def warm_up() -> dict[str, Any]:
    """Import both programs and what they import late; compose once, so that YAML is parsed."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch
    from composing import read_once
    from omegaconf import OmegaConf

    torch.set_num_threads(1)
    OmegaConf.load = staticmethod(read_once(OmegaConf.load))  # type: ignore[method-assign]
    doors = {f"{name}.py": importlib.import_module(name) for name in ("train", "infer")}
    for name in HEAVY:
        importlib.import_module(name)
    for program in doors:
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
            sys.argv = [program, "--cfg", "job"]
            doors[program].main()
    gc.freeze()
    return doors


def run_command(doors: dict[str, Any], request: dict[str, Any]) -> int:
    """Run one command as the shell would; return its exit status."""
    os.setsid()
    os.chdir(request["folder"])
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    give_up_privileges()
    sys.argv = [str(ROOT / request["command"][0]), *request["command"][1:]]
    try:
        doors[request["command"][0]].main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def give_up_privileges() -> None:
    """Have permissions of files hold for this process, the superuser's too (Linux: capset)."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of 32 capabilities each
    libc = ctypes.CDLL(None)
    assert libc.capget(head, sets) == 0
    for index in (0, 1):
        sets[index] &= ~OVERRIDE
    assert libc.capset(head, sets) == 0


def fork(doors: dict[str, Any], request: dict[str, Any]) -> int | None:
    """Run one command in a child, which is stopped where it takes too long."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = run_command(doors, request)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    end = time.monotonic() + WALL
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    doors = warm_up()
    for line in sys.stdin:
        answers.write(json.dumps(fork(doors, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
