"""Strike stories and print what became of them: python -m tests.slow.kills --kills 200."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from .stories import STORIES
from .trials import try_kills


def main() -> None:
    """Tell, strike, compare; exit with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--story", choices=STORIES, default="pipeline")
    parser.add_argument("--scratch", type=Path)
    chosen = parser.parse_args()
    scratch = chosen.scratch or Path(tempfile.mkdtemp(prefix="kills-"))
    kills = stories = bad = 0
    for trial in try_kills(scratch, STORIES[chosen.story], chosen.kills, chosen.seed):
        kills, stories = kills + len(trial.strikes), stories + 1
        bad += bool(trial.faults)
        say(f"story {trial.number}: {len(trial.strikes)} kills, {len(trial.faults)} faults")
        for line in [*trial.faults[:10], *(trial.strikes if trial.faults else [])]:
            say(f"    {line}")
    say(f"{kills} kills in {stories} stories; {bad} stories ended otherwise than undisturbed")
    sys.exit(bad > 0)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
