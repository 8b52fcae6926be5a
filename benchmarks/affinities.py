"""What other affinities and other keys of the memory are worth: `python -m benchmarks.affinities`.

Applies the prompts of what `python -m benchmarks.shapes` made, draw by draw, with one affinity
(METHOD 11.2, 11.3) or one kind of keys (METHOD 11.1) at a time, and the memory after it. Nothing is
trained or chosen; the truth is read for scores only. The tiny SAM's encoder has the part of DINO.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.spread import spread

ROOT = Path(__file__).parents[1]
BLOCKS = "affinity.attention_blocks=4"  # of the tiny CLIP's five, as its default has
JOINED = "memory.temperature=10"
# What is changed when the prompts are applied, and of the memory
VARIANTS: dict[str, tuple[list[str], list[str]]] = {
    "no affinity": (["affinity=none"], []),
    "CAA": ([], []),
    "class distributions": (["affinity=class_distribution", BLOCKS], []),
    "DINO, mixed with CLIP (SSR)": (["affinity=dino", BLOCKS], []),
    "DINO, of features (ProxyCLIP)": (["affinity=dino_proxy"], []),
    "DINO, within superpixels (CorrCLIP)": (["affinity=dino_superpixels"], []),
    "CAA, keys of DINO": (["region_keys=dino"], []),
    "CAA, keys of CLIP and DINO, τ = 10": (["region_keys=joined_dino"], [JOINED]),
}
STEPS = ("cam", "caa", "sams", "memory")
PROMPTS = {"hand-written": ["task=cls", "prompts=handwritten"], "cls": ["task=cls"]}
PROMPTS["seg"] = ["task=seg"]


def main() -> None:
    """Print a table of mIoU (percent) for each variant, mean ± standard deviation over draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("outputs/study"))
    parser.add_argument("--prompts", choices=PROMPTS, default="seg")
    options = parser.parse_args()

    draws = range(options.first_draw, options.first_draw + options.seeds)
    print(f"| mIoU, {len(draws)} draws | CAM | affinity | SAMS | memory |\n|---|---|---|---|---|")  # noqa: T201
    for number, (name, changes) in enumerate(VARIANTS.items()):
        found = [
            measure(options.folder / str(draw), draw, options.prompts, f"affinity{number}", changes)
            for draw in draws
        ]
        cells = [spread([scores[step] for scores in found]) for step in STEPS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)  # noqa: T201


def measure(
    folder: Path, draw: int, prompts: str, name: str, changes: tuple[list[str], list[str]]
) -> dict[str, float]:
    """Make the seeds of one draw in one way; return the mIoU of each step."""
    made, work = folder.resolve() / "shapes", folder.resolve() / prompts / name
    places = [f"dataset.draw_seed={draw}", f"paths.data={folder.resolve()}/data"]
    places += [f"paths.work={work}", f"data.superpixels={made}/superpixels"]
    places += ["logger=none", "report=none"]
    words = [*PROMPTS[prompts], "callbacks=regions", *changes[0]]
    if prompts != "hand-written":
        words.append(f"ckpt={made}/{prompts}.ckpt")
    regions = f"regions={work}/regions/{'fine' if prompts == 'seg' else 'coarse'}"
    for command in (words, ["task=memory", regions, *changes[1]]):
        run = [sys.executable, str(ROOT / "infer.py"), *command, *places]
        subprocess.run(run, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    stages = json.loads((work / "scores.json").read_text())
    kinds = [stage["train"] for stage in stages.values() if "train" in stage]
    return {step: kind[step]["miou"] for kind in reversed(kinds) for step in STEPS if step in kind}


if __name__ == "__main__":
    main()
