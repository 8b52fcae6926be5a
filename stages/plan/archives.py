"""What would be fetched to make a data set ready: `python infer.py task=prepare plan=true`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from fmawsss.files.writing import find_existing
from stages.jobs.archives import Archive
from stages.plan.sizes import write_size


def plan_archives(settings: Mapping[str, Any], root: Path) -> None:
    """Say which archives are there, unpacked or to be fetched, and how large they are.

    settings: of the job. root: the folder of the data set.
    """
    downloads, needed, lines = Path(settings["downloads"]), 0, []
    for place, archive in list_archives(settings, root).items():
        path, size = downloads / archive.name, archive.size or 0
        if place.is_dir():
            lines.append(f"{place} is there")
        elif path.is_file():
            lines.append(f"to unpack: {path}, {write_size(size)}")
            needed += size
        else:
            lines.append(f"to fetch: {path}, {write_size(size)}, from {archive.url}")
            needed += 2 * size  # images do not shrink in archives

    # of the disk
    free = shutil.disk_usage(find_existing(downloads)).free
    total = f"{write_size(needed)} of disk, for archives and what they hold"
    lines.append(f"{total} ({write_size(free)} free)")
    Console(markup=False, emoji=False, soft_wrap=True).print("\n".join(lines))


def list_archives(settings: Mapping[str, Any], root: Path) -> dict[Path, Archive]:
    """List the archives of a job by the folders that they are unpacked to."""
    found = {root / folder: archive for folder, archive in settings.get("archives", {}).items()}
    if "voc" in settings:
        found = {root: settings["voc"], Path(settings["sbd"]): settings["sbd_archive"]}
    return found
