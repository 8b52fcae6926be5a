"""How fast each part of the method is, beside the plain formulation: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.counts import count_elsewhere, count_parts, write_table
from benchmarks.inputs import PAPER, QUICK, Setting
from benchmarks.measure import measure_part, set_threads
from benchmarks.parts import PARTS
from benchmarks.report import write_report

TOLERANCE = 1e-3  # relative deviation between the two sides


def main(words: Sequence[str] | None = None) -> None:
    """Measure every part, print and write the table; fail where the two sides differ."""
    options = read_options(words)
    if options.count:
        return print_counts(options)
    batch = options.batch or (4 if options.quick else 16)
    setting = Setting(
        QUICK if options.quick else PAPER, batch, torch.device(options.device), options.threads
    )
    set_threads(options.threads)

    rows = []
    for name in options.parts:
        rows.append(measure_part(name, setting, options.seconds))
        table = write_report(rows, options.out, setting)
        print(table.splitlines()[-1], flush=True)  # noqa: T201
    print(f"\n{table}\nwritten to {options.out}")  # noqa: T201
    strange = [row for row in rows if not row.deviation <= TOLERANCE]
    if strange:
        worst = ", ".join(f"{row.comparison.label} ({row.deviation:.1e})" for row in strange)
        sys.exit(f"ours and plain differ by more than {TOLERANCE:g}: {worst}")


def print_counts(options: argparse.Namespace) -> None:
    """Print what each part asks of the device, beside the parts of another checkout if asked."""
    asked = options.parts, options.quick, options.device
    elsewhere = None if options.beside is None else count_elsewhere(options.beside, *asked)
    print(write_table(count_parts(*asked), elsewhere))  # noqa: T201


def read_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="images of a training batch, 16 by default")
    parser.add_argument(
        "--parts", type=read_parts, default=list(PARTS), help=f"some of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="for the calls of one part, as long as two fit"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small shapes, to see that everything runs"
    )
    parser.add_argument(
        "--count", action="store_true", help="operations, host reads and copies, instead of times"
    )
    parser.add_argument("--beside", type=Path, help="with --count, a checkout to count first")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    return parser.parse_args(words)


def read_parts(listed: str) -> list[str]:
    """Split a list of parts; refuse what is none."""
    names = listed.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no part, the parts are {', '.join(PARTS)}"
            )
    return names


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of what the libraries see on the way
    main()
