"""Peak memory of every stage of a folder run, by the size of a photo and by the number of photos.

    python -m benchmarks.memory_growth --megapixels 1,12,100 --images 100,10000

Each command runs in a process of its own, on tiny models, without loader processes; its peak is the
most that it held (`ru_maxrss`). Photos are JPEGs; many photos are tiny PNGs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

CLASSES = ("disk", "ring")
SHARED = [
    "dataset=folder", "clip=tiny", "sam=superpixels_classic", "loading.workers=0", "logger=none",
    "report=none",
]  # fmt: skip
LEARN = ["loop.max_steps=2", "loop.precision=32-true", "data.batch_size=2", "optimizer.lr=1e-4"]
SEEDS = ["dataset/labels=folders"]
STAGES = {
    "labels": ["infer.py", "task=labels", "dataset.classes=[disk,ring]"],
    "superpixels": ["infer.py", "task=superpixels"],
    "cls": ["train.py", "task=cls", *SEEDS, *LEARN, "callbacks=regions"],
    "memory": ["infer.py", "task=memory", *SEEDS],
    "seg": ["train.py", "task=seg", *SEEDS, *LEARN, "callbacks=regions"],
    "second memory": ["infer.py", "task=memory", *SEEDS, "regions={outputs}/folder/regions/fine"],
    "network": ["train.py", "task=network", *SEEDS, *LEARN],
    "masks": ["infer.py", "task=network", "overwrite=true"],
}


def main() -> None:
    """Measure both growths, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", default="1,12,100")
    parser.add_argument("--images", default="100,10000")
    parser.add_argument("--stages", default=",".join(STAGES))
    words = parser.parse_args()
    stages = words.stages.split(",")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        sizes = [float(text) for text in words.megapixels.split(",") if text]
        peaks = {}
        for megapixels in sizes:
            photos = Path(folder) / f"size_{megapixels:g}"
            draw_photos(photos, 2, find_side(megapixels))
            peaks[f"{megapixels:g} Mpx"] = measure_stages(photos, stages)
        if peaks:
            console.print(lay_out("peak in GB, two photos", peaks, []))

        counts = [int(text) for text in words.images.split(",") if text]
        peaks = {}
        for count in counts:
            photos = Path(folder) / f"count_{count}"
            draw_photos(photos, count, (24, 32))
            peaks[f"{count} images"] = measure_stages(photos, stages)
        if peaks:
            console.print(lay_out("peak in GB, tiny photos", peaks, counts))


def find_side(megapixels: float) -> tuple[int, int]:
    """Return height and width of a photo of 4 to 3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return height, round(megapixels * 1e6 / height)


def draw_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Draw photos of smooth noise in a folder per class."""
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        photo = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        place = folder / CLASSES[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        photo.save(place / f"{index:06}.{'jpg' if size[0] > 100 else 'png'}")


def measure_stages(photos: Path, stages: list[str]) -> dict[str, float]:
    """Run the stages one after the other, and return the peak of each in GB."""
    outputs = f"{photos}_outputs"
    there = [f"dataset.root={photos}", f"paths.outputs={outputs}", *SHARED]
    peaks = {}
    for stage in stages:
        words = [word.format(outputs=outputs) for word in STAGES[stage]]
        process = subprocess.Popen([sys.executable, *words, *there], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{stage} ended with {process.returncode}")
        peaks[stage] = usage.ru_maxrss * 1024 / 1e9
        Console().print(f"{photos.name}, {stage}: {peaks[stage]:.2f} GB", highlight=False)
    return peaks


def lay_out(title: str, peaks: dict[str, dict[str, float]], counts: list[int]) -> Table:
    """Lay out peaks, a row per stage; for numbers of images with the growth per image."""
    table = Table("stage", *peaks, title=title)
    grown = len(counts) > 1
    if grown:
        table.add_column("kB an image", justify="right")
    for stage in next(iter(peaks.values())):
        row = [found[stage] for found in peaks.values()]
        growth = [] if not grown else [f"{1e6 * (row[-1] - row[0]) / (counts[-1] - counts[0]):.2f}"]
        table.add_row(stage, *(f"{value:.2f}" for value in row), *growth)
    return table


if __name__ == "__main__":
    main()
