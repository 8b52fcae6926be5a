"""How fast each part of the method is, beside the plain formulation: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.counts import count_elsewhere, count_parts, write_table
from benchmarks.inputs import PAPER, QUICK, Setting
from benchmarks.measure import measure_part, set_threads, time_product
from benchmarks.parts import ON_A_CARD, PARTS
from benchmarks.report import write_report

CARD_LIMIT = 280.0  # seconds, after which no part is begun on a card


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

    # one part after the other; one that fails, for want of memory say, leaves the others alone
    rows, failed, left = [], {}, []
    started, rate = time.monotonic(), time_product(setting)
    for name in options.parts:
        if time.monotonic() - started > options.limit:
            left.append(name)
            continue
        try:
            rows.append(measure_part(name, setting, options.seconds, rate))
        except Exception as error:
            failed[name] = error
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)  # noqa: T201
            continue
        finally:
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
        table = write_report(rows, options.out, setting)
        print(table.splitlines()[-1], flush=True)  # noqa: T201

    # all of them, and what is wrong
    if rows:
        print(f"\n{table}\nwritten to {options.out}")  # noqa: T201
    if left:
        print(f"no time was left for {', '.join(left)}: --limit, --parts")  # noqa: T201
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    strange = [row for row in rows if not row.deviation <= row.comparison.tolerance]
    if strange:
        worst = ", ".join(f"{row.comparison.label} ({row.deviation:.1e})" for row in strange)
        sys.exit(f"ours and plain differ by more than they may: {worst}")


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
    parser.add_argument("--parts", type=read_parts, help=f"some of {', '.join(PARTS)}")
    parser.add_argument(
        "--seconds", type=float, help="for the calls of one part, as long as two fit: 15, 5 on cuda"
    )
    parser.add_argument(
        "--limit", type=float, help=f"seconds, then no part is begun: {CARD_LIMIT:g} on cuda"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small shapes, to see that everything runs"
    )
    parser.add_argument(
        "--count", action="store_true", help="operations, host reads and copies, instead of times"
    )
    parser.add_argument("--beside", type=Path, help="with --count, a checkout to count first")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    options = parser.parse_args(words)

    # a card has minutes, a processor no end
    card = torch.device(options.device).type == "cuda"
    if options.parts is None:
        options.parts = [n for n in PARTS if card or options.quick or n not in ON_A_CARD]
    if options.seconds is None:
        options.seconds = 5.0 if card else 15.0
    if options.limit is None:
        options.limit = CARD_LIMIT if card else math.inf
    return options


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
