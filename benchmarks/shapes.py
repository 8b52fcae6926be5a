"""How well each step does on generated images: `python -m benchmarks.shapes --seeds 3`.

Every seed draws a data set of its own, never used to choose a setting, and runs the whole pipeline
with the default settings; beside it the two references: hand-written prompts, and the same network
trained on true masks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.spread import spread

ROOT = Path(__file__).parents[1]
ROWS = {
    "CAM, hand-written prompt": ("handwritten", "train", "cam"),
    "+ affinity (CAA)": ("handwritten", "train", "caa"),
    "+ superpixels (SAMS)": ("handwritten", "train", "sams"),
    "+ memory": ("handwritten_memory", "train", "memory"),
    "CAM, classification prompts": ("cls", "train", "cam"),
    "+ affinity (CAA) ": ("cls", "train", "caa"),
    "+ superpixels (SAMS) ": ("cls", "train", "sams"),
    "+ memory: coarse seeds": ("coarse_memory", "train", "memory"),
    "CAM, segmentation prompts": ("seg", "train", "cam"),
    "+ affinity (CAA)  ": ("seg", "train", "caa"),
    "+ superpixels (SAMS)  ": ("seg", "train", "sams"),
    "+ memory: fine seeds": ("fine_memory", "train", "memory"),
    "network on fine seeds, val": ("network", "val", "network"),
    "network on true masks, val": ("network_truth", "val", "network"),
}


def main() -> None:
    """Run every seed, then print a Markdown table of mIoU (percent), mean ± standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=2000, help="far from those tried on")
    parser.add_argument("--folder", type=Path, default=Path("outputs/study"))
    options = parser.parse_args()

    draws = range(options.first_draw, options.first_draw + options.seeds)
    runs = [run_seed(seed, draw, options.folder / str(draw)) for seed, draw in enumerate(draws)]
    print(f"| mIoU, {options.seeds} seeds | mean ± std |\n|---|---|")  # noqa: T201
    for row, (stage, split, kind) in ROWS.items():
        values = [run[stage][split][kind]["miou"] for run in runs]
        print(f"| {row.strip()} | {spread(values)} |")  # noqa: T201


def run_seed(seed: int, draw: int, folder: Path) -> dict:
    """Run the pipeline and its references on one draw; what is complete is not run again."""
    command = [sys.executable, str(ROOT / "train.py"), "experiment=study", f"seed={seed}"]
    places = [
        f"dataset.draw_seed={draw}",
        f"paths.data={folder}/data",
        f"paths.outputs={folder}",
    ]
    subprocess.run([*command, *places], check=True, cwd=ROOT)
    return json.loads((ROOT / folder / "shapes" / "scores.json").read_text())


if __name__ == "__main__":
    main()
