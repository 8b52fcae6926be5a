"""The report's section on what people have corrected: how many images, and who trusted them."""

from __future__ import annotations

from collections.abc import Iterator

from fmawsss.files.products import read_record
from stages.pages import Section, render
from stages.reports.report import RunFolder


def show_corrected(folder: RunFolder) -> Section | None:
    """Say which stages trusted corrections; nothing where none did."""
    lines = [*list_seeds(folder), *list_checkpoints(folder)]
    return Section("Corrected", render("corrected.html.j2", lines=lines)) if lines else None


def list_seeds(folder: RunFolder) -> Iterator[str]:
    """Say how many images of each stage are corrected, and how much of them."""
    for stage in folder.stages:
        lines = folder.read_lines(stage)
        shares = [line["corrected"] for line in lines.list_with("corrected")]
        if shares:
            mean = 100 * sum(shares) / len(shares)
            yield (
                f"{stage.name}, {stage.split}: {len(shares)} of {len(lines)} images, {mean:.0f}% "
                "of their pixels"
            )


def list_checkpoints(folder: RunFolder) -> Iterator[str]:
    """Name the checkpoints that learned from corrections."""
    for path in sorted(folder.path.glob("*.ckpt")):
        record = read_record(path)
        if record is not None and "corrected" in record["upstream"]:
            yield f"{path.name} learned from corrected masks, with weight 1"
