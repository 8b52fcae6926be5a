"""Write what was measured: a Markdown table, a CSV file, and a plot of the speed-ups."""

from __future__ import annotations

import csv
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.inputs import Setting
from benchmarks.measure import Row
from fmawsss.viz import INK, PAPER

HEADER = (
    "part",
    "plain",
    "ours",
    "faster",
    "bare encoder: its part of plain, of ours",
    "ours / bare",
    "peak, plain",
    "peak, ours",
    "deviation",
    "ours, of a large product's rate",
)
CSV_HEADER = (
    *(
        "part",
        "plain_seconds",
        "ours_seconds",
        "faster",
        "faster_aim",
        "bare_seconds",
        "ours_per_bare",
    ),
    *("ours_per_bare_aim", "plain_peak_bytes", "ours_peak_bytes", "deviation"),
    *("ours_flops", "ours_share_of_peak"),
)
BAR, AIM, LINE, LEFT, WIDTH = (84, 110, 190), (214, 84, 60), 26, 330, 900


def write_report(rows: Sequence[Row], folder: Path, setting: Setting) -> str:
    """Write `table.md`, `table.csv` and `plot.png`; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [list_cells(row) for row in rows]
    table = "\n".join(
        [
            f"| {' | '.join(HEADER)} |",
            "|---" * len(HEADER) + "|",
            *(f"| {' | '.join(line)} |" for line in lines),
        ]
    )
    text = f"{describe_machine(setting)}\n\n{table}\n"
    (folder / "table.md").write_text(text)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([CSV_HEADER, *(list_numbers(row) for row in rows)])
    draw_plot(rows).save(folder / "plot.png")
    return text


def list_numbers(row: Row) -> list[str | float | None]:
    """List what was measured, for machines."""
    aims = row.comparison
    return [
        *(
            aims.label,
            row.plain,
            row.ours,
            row.speed,
            aims.speed,
            row.bare,
            row.per_bare,
            aims.per_bare,
        ),
        *(row.plain_peak, row.ours_peak, row.deviation, row.flops, row.share),
    ]


def list_cells(row: Row) -> list[str]:
    """List what was measured, for people; aims in brackets."""
    aims = row.comparison
    return [
        aims.label,
        show_time(row.plain),
        show_time(row.ours),
        f"{row.speed:.1f}x" + show_aim("≥", aims.speed),
        show_bare(row),
        show(row.per_bare, lambda ratio: f"{ratio:.2f}") + show_aim("≤", aims.per_bare),
        show(row.plain_peak, show_bytes),
        show(row.ours_peak, show_bytes) + show_aim("≤", find_peak_aim(row)),
        f"{row.deviation:.0e}",
        f"{row.flops / row.ours / 1e12:.2g} TFLOP/s: {100 * row.share:.0f} %",
    ]


def show(value: float | None, write: Callable[[float], str]) -> str:
    """Write a number, or nothing where there is none."""
    return "" if value is None else write(value)


def show_bare(row: Row) -> str:
    """Write the time of the bare image encoder, and what part of either side it is."""
    if row.bare is None or row.per_bare is None:
        return ""
    return f"{show_time(row.bare)}: {100 * row.bare / row.plain:.0f} %, {100 / row.per_bare:.0f} %"


def show_aim(sign: str, aim: float | str | None) -> str:
    """Write an aim in brackets, or nothing where there is none."""
    return "" if aim is None else f" ({sign} {aim})"


def find_peak_aim(row: Row) -> str | None:
    """Return how much memory ours may take."""
    memory, peak = row.comparison.memory, row.plain_peak
    return None if memory is None or peak is None else show_bytes(memory * peak)


def show_time(seconds: float) -> str:
    """Write a time with three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def show_bytes(count: float) -> str:
    """Write an amount of memory."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def describe_machine(setting: Setting) -> str:
    """Say what the times were measured on."""
    threads = "1 thread (its CPU time)" if setting.threads == 1 else f"{setting.threads} threads"
    on_cpu = f"{platform.machine()}, {threads}"
    name = torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else on_cpu
    return f"{name}, float32, torch {torch.__version__}"


def draw_plot(rows: Sequence[Row]) -> Image.Image:
    """Draw how many times faster each part is, on a logarithmic scale, its aim as a red mark."""
    picture = Image.new("RGB", (WIDTH, LINE * (len(rows) + 2)), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    draw.text((8, 4), "times faster than the plain formulation", INK, font)
    longest = math.log(max([10.0, *(max(row.speed, row.comparison.speed or 1) for row in rows)]))

    def place(speed: float) -> float:
        return LEFT + (WIDTH - LEFT - 80) * max(math.log(speed), 0) / longest

    for line, row in enumerate(rows, start=1):
        top = LINE * line + 6
        draw.text((8, top), row.comparison.label, INK, font)
        draw.rectangle((LEFT, top, place(row.speed), top + LINE - 8), BAR)
        draw.text((place(row.speed) + 8, top), f"{row.speed:.1f}", INK, font)
        if row.comparison.speed is not None:
            aim = place(row.comparison.speed)
            draw.rectangle((aim - 1, top - 2, aim + 1, top + LINE - 6), AIM)
    return picture
