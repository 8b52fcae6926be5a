"""Try a bad input in a process of its own and say what became of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import warm
from .project import make_project

VERDICTS = ("good", "raw", "silent", "loss", "hang", "vague")
LINES = 2  # of an error
LOG = re.compile(r"\d\d:\d\d:\d\d ")
WARNING = re.compile(r"(\S+\.py:\d+: \w*Warning: .*\n)(?:  .*\n)?")
# what every run may write anew: records of runs, scores, journals and pictures
VOLATILE = re.compile(
    r"(^|/)(runs|pictures)/|(^|/)(scores\.json|stages\.json|report\.html)$|\.lock$|\.jsonl$"
    r"|(^|/)\.checked_files\.json$"
)


@dataclass(frozen=True)
class BadInput:
    """A command that should not work, and what its message must say.

    kind: of input; the module that it stands in.
    command: `train.py` or `infer.py` and its words.
    prepare: spoils the copy of the project that the command runs in.
    names: a pattern of the file or key that the message must name.
    tells: a pattern of what is expected, or what to do.
    """

    name: str
    kind: str
    command: Sequence[str]
    prepare: Callable[[Path], Any] | None
    names: str
    tells: str


@dataclass(frozen=True)
class Verdict:
    """What became of a case: a word of `VERDICTS`, the exit status, what was printed."""

    word: str
    status: int | None
    said: str


class Judge:
    """Try cases in copies of a project, one after the other."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key not in UNSET}
        self.process = subprocess.Popen(
            [sys.executable, warm.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, **SET},
        )

    def close(self) -> None:
        """End the warm process."""
        self.process.communicate()

    def run(self, folder: Path, command: Sequence[str]) -> tuple[int | None, str, str]:
        """Run a command in a folder; return its exit status and what it printed."""
        out, err = self.scratch / "out.txt", self.scratch / "err.txt"
        request = {"folder": str(folder), "command": list(command)}
        request |= {"out": str(out), "err": str(err)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status = json.loads(self.process.stdout.readline())
        return status, *(path.read_text(errors="replace") for path in (out, err))

    def succeed(self, folder: Path, command: Sequence[str]) -> None:
        """Run a command of the good project."""
        status, out, err = self.run(folder, command)
        assert status == 0, f"{' '.join(command)} ended with {status}: {out[-2000:]}{err[-2000:]}"

    def make_project(self, folder: Path) -> Path:
        """Make the good project, once."""
        folder.mkdir(parents=True)
        make_project(folder, self.succeed)
        return folder

    def try_case(self, case: BadInput, project: Path) -> Verdict:
        """Copy the project, spoil it, run the command and judge."""
        folder = self.scratch / case.name
        shutil.copytree(project, folder, symlinks=True)
        try:
            whole = digest_files(folder)
            if case.prepare is not None:
                case.prepare(folder)
            spoiled = digest_files(folder)
            status, out, err = self.run(folder, case.command)
            kept = spoiled if status else {k: v for k, v in spoiled.items() if whole.get(k) == v}
            lost = find_lost(kept, digest_files(folder))
            return Verdict(judge(case, status, out, err, lost), status, "\n".join([err, *lost]))
        finally:
            remove(folder)


UNSET = ("HYDRA_FULL_ERROR", "FMAWSSS_RAISES", "PYTHONPATH")
SET = {
    "OMP_NUM_THREADS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    **{name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")},  # no network
}


def judge(case: BadInput, status: int | None, out: str, err: str, lost: Sequence[str]) -> str:
    """Say in one word what became of a case."""
    said = [line for line in WARNING.sub("", err).splitlines() if line.strip()]
    said = [line for line in said if not LOG.match(line)]
    if status is None:
        return "hang"
    if status < 0 or "Traceback (most recent" in out + err or len(said) > LINES:
        return "raw"
    if lost:
        return "loss"
    if status == 0:
        return "good" if tells(case, out + err) else "silent"
    return "good" if tells(case, "\n".join(said) if said else out) else "vague"


def tells(case: BadInput, text: str) -> bool:
    """Say whether a text names the file or key, and says what is expected or to be done."""
    return all(re.search(pattern, text) for pattern in (case.names, case.tells))


def digest_files(folder: Path) -> dict[str, str]:
    """Digest all files below a folder but for those that every run writes anew."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if VOLATILE.search(name) or path.is_dir():
            continue
        found[name] = digest(path)
    return found


def digest(path: Path) -> str:
    """Digest a file, a link by where it leads, anything else by what it is."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "no file"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return type(error).__name__


def find_lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """List the files that are gone or changed."""
    return [f"lost: {name}" for name in before if after.get(name) != before[name]]


def remove(folder: Path) -> None:
    """Remove a folder, write-protected parts too."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)
