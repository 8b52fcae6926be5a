"""What `targets=` is worth with seeds of a memory: `python -m benchmarks.targets --seeds 3`.

Every draw of generated images gets superpixels, both kinds of prompts and seeds by the default
settings, then a network for each row from the same seeds, all with one seed; true masks are the
reference. Nothing is chosen; the truth is read for scores on val, and by the reference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.corrections import run
from benchmarks.spread import spread

NETWORKS = {  # each with the seeds that it learns from
    "hard": ("filled", ["targets=hard"]),
    "tolerant": ("filled", ["targets=tolerant"]),
    "confident": ("filled", ["targets=confident"]),
    "weighted": ("filled", ["targets=weighted"]),
    "soft": ("filled", ["targets=soft"]),
    "covered": ("bare", ["targets=covered"]),
    "edges": ("filled", ["targets=edges", "targets.make.radius=2"]),
    "ema": ("filled", ["averaging=ema"]),
    "truth": ("truth", ["targets=hard"]),
}


def main() -> None:
    """Run every draw, then print a Markdown table of mIoU on val, mean ± standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=2000, help="far from those tried on")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--folder", type=Path, default=Path("outputs/targets"))
    options = parser.parse_args()

    # all rows of a draw before the next draw: half of a study is whole draws
    draws = range(options.first_draw, options.first_draw + options.seeds)
    found: dict[str, list[float]] = {name: [] for name in options.networks}
    for seed, draw in enumerate(draws):
        folder = (options.folder / str(draw)).absolute()
        places = [f"paths.data={folder}/data", f"paths.outputs={folder}"]
        own = [f"dataset.draw_seed={draw}", *places, "logger=none", "report=none"]
        seeds = make_seeds(draw, folder, own)
        for name in options.networks:
            kind, words = NETWORKS[name]
            found[name].append(learn(seed, seeds[kind], folder / "learned" / name, words, own))

    print(f"| mIoU, {len(draws)} draws | mean ± std | by draw |\n|---|---|---|")  # noqa: T201
    for name, scores in found.items():
        each = ", ".join(f"{100 * score:.1f}" for score in scores)
        print(f"| {name} | {spread(scores)} | {each} |")  # noqa: T201


def make_seeds(draw: int, folder: Path, own: list[str]) -> dict[str, Path]:
    """Make the memory's fine seeds, and how sure they are; return the folder of each kind.

    `filled` are those of the default settings, in `bare` no CAM says what lies outside all
    superpixels.
    """
    run("train", "stages.network=null", f"seed={draw}", *own)
    made, kinds = folder / "shapes", {}
    for kind in ("filled", "bare"):
        work, regions = folder / kind, made / "regions" / "fine"
        places = [f"paths.work={work}", *own]
        if kind == "bare":
            words = [f"ckpt={made}/seg.ckpt", "seeding.sams.fill=null", "callbacks=regions"]
            run("infer", "task=seg", *words, *places)
            regions = work / "regions" / "fine"
        run("infer", "task=memory", f"regions={regions}", "callbacks=seed_confidence", *places)
        kinds[kind] = work / "seeds" / "fine_memory"
    return {**kinds, "truth": folder / "data" / f"shapes-{draw}" / "SegmentationClass"}


def learn(seed: int, seeds: Path, work: Path, words: list[str], own: list[str]) -> float:
    """Train a network on seeds, unless it is there; return its mIoU on val."""
    run(
        "train",
        "task=network",
        f"seeds={seeds}",
        *words,
        f"seed={seed}",
        f"paths.work={work}",
        *own,
    )
    scores = json.loads((work / "scores.json").read_text())
    return float(scores["network"]["val"]["network"]["miou"])


if __name__ == "__main__":
    main()
