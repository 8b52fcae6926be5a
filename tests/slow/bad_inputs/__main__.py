"""Try bad inputs and print a table: python -m tests.slow.bad_inputs [KIND …] [-k PART]."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from .judge import VERDICTS, BadInput, Judge, Verdict
from .kinds import ALL, CASES, GOALS


def main() -> None:
    """Try the cases that are asked for; end with 1 unless all are good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(GOALS)}; all without any")
    parser.add_argument("-k", default="", help="a part of the names")
    parser.add_argument("--jobs", type=int, default=1, help="cases side by side")
    parser.add_argument("--project", type=Path, help="a folder that keeps the good project")
    chosen = parser.parse_args()
    cases = [case for case in ALL if chosen.k in case.name]
    cases = [case for case in cases if not chosen.kinds or case.kind in chosen.kinds]
    with TemporaryDirectory(prefix="bad_inputs_") as scratch:
        verdicts = try_all(cases, Path(scratch), chosen.project, chosen.jobs)
    print_table(cases, verdicts)
    sys.exit(any(verdict.word != "good" for verdict in verdicts))


def try_all(cases: list[BadInput], scratch: Path, project: Path | None, jobs: int) -> list[Verdict]:
    """Try cases side by side, each worker with a warm process of its own."""
    judges: SimpleQueue[Judge] = SimpleQueue()
    for number in range(jobs):
        judges.put(Judge(scratch / str(number)))
    first = judges.get()
    project = project or scratch / "project"
    if not project.exists():
        first.make_project(project)
    judges.put(first)

    def try_one(case: BadInput) -> Verdict:
        judge = judges.get()
        try:
            verdict = judge.try_case(case, project)
        finally:
            judges.put(judge)
        if verdict.word != "good":
            say(f"{verdict.word:7} {case.kind}/{case.name}: {' '.join(case.command)}")
            say(f"        exit {verdict.status}: {verdict.said.strip()[-1500:]}")
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        verdicts = list(pool.map(try_one, cases))
    for _ in range(jobs):
        judges.get().close()
    return verdicts


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def print_table(cases: list[BadInput], verdicts: list[Verdict]) -> None:
    """Print how many cases of each kind came out how."""
    say(f"\n{'kind':14} {'cases':>6} " + " ".join(f"{word:>6}" for word in VERDICTS))
    for kind in [*CASES, "all"]:
        words = Counter(
            verdict.word
            for case, verdict in zip(cases, verdicts, strict=True)
            if kind in (case.kind, "all")
        )
        if words:
            counts = " ".join(f"{words[word]:6}" for word in VERDICTS)
            say(f"{kind:14} {words.total():6} {counts}")


if __name__ == "__main__":
    main()
