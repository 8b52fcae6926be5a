"""The report's section on what to do next, for photos whose truth nobody knows."""

from __future__ import annotations

from stages.pages import Section, render
from stages.reports.gallery import has_masks
from stages.reports.report import RunFolder


def show_next_steps(folder: RunFolder) -> Section | None:
    """Say what to do with masks that have no scores; nothing where there are scores."""
    if folder.scores or not any(has_masks(folder, stage) for stage in folder.stages):
        return None
    learned = (folder.path / "network.ckpt").is_file()
    return Section("Next", render("next.html.j2", learned=learned))
