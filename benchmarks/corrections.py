"""What corrections of people are worth: `python -m benchmarks.corrections --seeds 3`.

On each draw of generated images, seeds come from hand-written prompts and a memory, the road of
photos. Then the truth of some training images is taken as corrections would be, in random order or
in that of `task=next`; the memory makes the seeds again, a network learns from them.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.spread import spread
from fmawsss.files.journals import read_lines
from fmawsss.files.tallies import score_tally, tally_lines
from fmawsss.tiny.shapes import CLASS_NAMES

COUNTS = (5, 10, 20, 40)
ORDERS = ("random", "ours")
Row = tuple[str, int]


def main() -> None:
    """Run every draw, order and count, then print a Markdown table, mean ± standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=4100, help="far from those tried on")
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--learned", type=int, nargs="*", default=COUNTS, help="a network, too")
    parser.add_argument("--folder", type=Path, default=Path("outputs/corrections"))
    options = parser.parse_args()

    draws = range(options.first_draw, options.first_draw + options.seeds)
    found: dict[Row, dict[str, list[float]]] = {}
    for seed, draw in enumerate(draws):
        folder = (options.folder / str(draw)).absolute()
        for row, scores in run_draw(seed, draw, folder, options.counts, options.learned):
            for name, score in scores.items():
                found.setdefault(row, {}).setdefault(name, []).append(score)

    names = ("before", "others", "all", "val")
    titles = ("others, before", "others", "all", "network, val")
    print(f"| corrected | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}")  # noqa: T201
    for (order, count), scores in found.items():
        cells = [spread(scores[name]) if name in scores else "" for name in names]
        print(f"| {count} {order} | {' | '.join(cells)} |")  # noqa: T201


def run_draw(
    seed: int, draw: int, folder: Path, counts: Sequence[int], learned: Sequence[int]
) -> Iterable[tuple[Row, dict[str, float]]]:
    """Run one draw; what is complete is not run again.

    Gives the mIoU of the seeds of `others`, which nobody corrected, of `all`, and of a network on
    `val`; `before` are the others without any corrections.
    """
    own = [
        f"dataset.draw_seed={draw}",
        f"seed={seed}",
        f"paths.data={folder}/data",
        f"paths.outputs={folder}",
        "logger=none",
        "report=none",
        "callbacks=none",
        "trainer=cpu",
    ]
    run("train", "learn=network", "stages.network=null", *own)
    base = folder / "shapes"
    plain = base / "seeds" / "coarse_memory"
    scores = {"all": score_images(plain, ()), "before": score_images(plain, ())}
    scores["others"] = scores["all"]
    if learned:
        scores["val"] = learn(folder, "none", plain, [], own)
    yield ("", 0), scores

    most = max(counts)
    run("infer", "task=next", f"count={most}", *own[:4])
    for order in ORDERS:
        names = list_order(order, draw, base, most)
        for count in counts:
            work, chosen = folder / f"{order}-{count}", names[:count]
            corrected = correct(work, folder, draw, chosen, own)
            run("infer", "task=memory", corrected, f"paths.work={work}", *own)
            seeds = work / "seeds" / "coarse_memory"
            scores = {
                "before": score_images(plain, chosen),
                "others": score_images(seeds, chosen),
                "all": score_images(seeds, ()),
            }
            if count in learned:
                scores["val"] = learn(folder, f"{order}-{count}", seeds, [corrected], own)
            yield (order, count), scores


def list_order(order: str, draw: int, base: Path, count: int) -> list[str]:
    """List the training images in the order in which they are corrected."""
    if order == "ours":
        with (base / "next.csv").open(encoding="utf-8") as file:
            return [row["image"] for row in csv.DictReader(file)]
    names = sorted(path.stem for path in (base / "seeds" / "coarse_memory").glob("*.png"))
    return random.Random(draw).sample(names, count)


def correct(work: Path, folder: Path, draw: int, names: Sequence[str], own: Sequence[str]) -> str:
    """Take the true masks of images as corrections; return the word that trusts them."""
    truths, drawn = folder / "data" / f"shapes-{draw}" / "SegmentationClass", work / "drawn"
    drawn.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(truths / f"{name}.png", drawn)
    place = f"job.folder={work}/corrected"
    run("infer", "task=corrections", f"corrected={drawn}", place, *own[:4])
    return f"corrected={work}/corrected"


def learn(
    folder: Path, name: str, seeds: Path, corrected: Sequence[str], own: Sequence[str]
) -> float:
    """Train a network on seeds; return its mIoU on val."""
    work = folder / name
    run("train", "task=network", f"seeds={seeds}", *corrected, f"paths.work={work}", *own)
    scores = json.loads((work / "scores.json").read_text())
    return float(scores["network"]["val"]["network"]["miou"])


def score_images(product: Path, without: Iterable[str]) -> float:
    """Return the mIoU of the memory's seeds over all images but some."""
    left_out = set(without)
    lines = [line for line in read_lines(product).values() if line["name"] not in left_out]
    tally = tally_lines(lines, len(CLASS_NAMES) + 1)
    return score_tally(tally, CLASS_NAMES)["memory"].miou


def run(door: str, *words: str) -> None:
    """Run a command of the project, in this process: its libraries are loaded once."""
    sys.argv = [f"{door}.py", *words]
    import_module(door).main()


if __name__ == "__main__":
    main()
