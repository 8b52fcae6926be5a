"""What wrong image labels do to seeds, and who finds them: `python -m benchmarks.label_noise`.

Of every draw of generated images a share gets wrong labels: half of them lose one (the only one is
exchanged for another class), half show a class that is not there. Seeds of hand-written and of
learned prompts are made with these labels alone, with and without a memory, and scored on the true
masks. The report's list of likely label errors is compared with the errors that were made.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.spread import spread
from fmawsss.tiny.shapes import CLASS_NAMES
from stages.reports.image_ranks import find_suspicions
from stages.reports.images import join_facts
from stages.reports.report import RunFolder

ROOT = Path(__file__).parents[1]
SHARES = (0.0, 0.1, 0.2, 0.4)
KINDS = {"hand-written": ("handwritten", "handwritten_memory"), "cls": ("cls", "coarse_memory")}
FIRST = 20  # images of the report's list
UNUSED = ("seg", "fine_memory", "network", "network_truth")


def main() -> None:
    """Run every draw and share, then print two Markdown tables, mean ± standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=3000, help="far from those tried on")
    parser.add_argument("--prompts", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--folder", type=Path, default=Path("outputs/noise"))
    options = parser.parse_args()

    draws = range(options.first_draw, options.first_draw + options.seeds)
    mious: dict[tuple[float, str], list[float]] = {}
    precisions: dict[tuple[float, str], list[float]] = {}
    for seed, draw in enumerate(draws):
        for share in options.shares:
            folder = options.folder / str(draw)
            work, wrong = run_share(seed, draw, share, folder, options.prompts)
            scores = json.loads((work / "scores.json").read_text())
            for prompts in options.prompts:
                for stage, kind in zip(KINDS[prompts], ("sams", "memory"), strict=True):
                    miou = scores[stage]["train"][kind]["miou"]
                    mious.setdefault((share, stage), []).append(miou)
                    precision = measure_precision(work, stage, wrong)
                    precisions.setdefault((share, stage), []).append(precision)

    names = [name for kind in options.prompts for name in (kind, f"{kind}, memory")]
    stages = [stage for kind in options.prompts for stage in KINDS[kind]]
    for title, found in ("mIoU", mious), (f"right of the first {FIRST}", precisions):
        print(f"| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")  # noqa: T201
        for share in options.shares:
            cells = " | ".join(spread(found[share, stage]) for stage in stages)
            print(f"| {100 * share:.0f} % of labels wrong | {cells} |")  # noqa: T201


def run_share(
    seed: int, draw: int, share: float, folder: Path, prompts: Sequence[str]
) -> tuple[Path, set[str]]:
    """Make the seeds of one draw with wrong labels; what is complete is not made again.

    Returns the folder of results, and the images with wrong labels.
    """
    data = f"paths.data={folder}/data"
    own = [f"dataset.draw_seed={draw}", data, "logger=none", "report=none", "trainer=cpu"]
    run("infer.py", "task=superpixels", f"paths.outputs={folder}", *own)
    outputs = folder / f"wrong-{share:g}"
    if not outputs.exists():
        shutil.copytree(folder / "shapes", outputs / "shapes")  # superpixels know no labels
    labels, wrong = spoil_labels(folder / "data" / f"shapes-{draw}", share, random.Random(draw))
    table = outputs / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "labels"])
        writer.writerows((name, ";".join(shown)) for name, shown in labels.items())
    unused = [*UNUSED, *(stage for kind in KINDS if kind not in prompts for stage in KINDS[kind])]
    run(
        "train.py",
        "experiment=study",
        f"seed={seed}",
        f"paths.outputs={outputs}",
        "dataset/labels=file",
        f"dataset.labels.path={table}",
        *(f"stages.{stage}=null" for stage in unused),
        *own,
    )
    return outputs / "shapes", wrong


def run(door: str, *words: str) -> None:
    """Run a command of the project."""
    subprocess.run([sys.executable, str(ROOT / door), *words], check=True, cwd=ROOT)


def spoil_labels(
    data: Path, share: float, rng: random.Random
) -> tuple[dict[str, list[str]], set[str]]:
    """Read the labels of all images and make those of a share of the training images wrong.

    Returns all labels, and the names of images whose labels are wrong.
    """
    labels = {path.stem: read_labels(path) for path in sorted((data / "Annotations").glob("*.xml"))}
    names = [name for name in labels if name.startswith("train")]
    wrong = rng.sample(names, round(share * len(names)))
    for number, name in enumerate(wrong):
        shown = labels[name]
        other = rng.choice([known for known in CLASS_NAMES if known not in shown])
        lost = rng.choice(shown) if number % 2 == 0 else None
        added = [other] if lost is None or len(shown) == 1 else []
        labels[name] = [label for label in shown if label != lost] + added
    return labels, set(wrong)


def read_labels(path: Path) -> list[str]:
    """Read the classes that an annotation lists, each once."""
    names = [entry.text or "" for entry in ElementTree.parse(path).findall("object/name")]
    return list(dict.fromkeys(names))


def measure_precision(work: Path, stage: str, wrong: set[str]) -> float:
    """Measure how many of the first images of the report's list do have wrong labels."""
    joined = {note.name: (note, list(lines)) for note, lines in join_facts(RunFolder(work))}
    note, lines = joined[stage]
    found = find_suspicions(lines, note.classes)[:FIRST]
    return sum(item.line["name"] in wrong for item in found) / FIRST


if __name__ == "__main__":
    main()
