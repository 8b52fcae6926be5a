"""What many images cost beside the networks: `python -m benchmarks.scale`.

Trees of 10³, 10⁴ and 10⁵ tiny images are built (COCO's layout has half as many in val), and the
programs run in them: for each run the seconds on the clock, those of the processor and the peak of
memory; and of each image more than in the smaller tree: milliseconds of the processor, kB of the
peak, and calls to the file system by path, counted by strace in another run of the same. What the
stages make of images is made of the first ones, the others are links to it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHORT = ("cls", "seg", "network")  # stages of one training step
COLUMNS = "| images | run | seconds | of the processor | peak GB | ms | kB | file operations |"


@dataclass(frozen=True)
class Case:
    """A run to measure: what it is called, where it ends, the program and its words."""

    name: str
    until: str
    program: str
    words: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """What a run took; operations None where strace was not asked."""

    seconds: float
    processor: float
    peak_gb: float
    operations: int | None


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table, a row for each run and number of images."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--tree", choices=("coco", "voc", "folder"), default="coco")
    parser.add_argument("--folder", type=Path, help="keep the trees there, and use them again")
    parser.add_argument("--only", help="runs whose names match")
    parser.add_argument("--no-strace", action="store_true", help="count no operations")
    options = parser.parse_args(arguments)
    strace = shutil.which("strace") is not None and not options.no_strace
    print(f"{COLUMNS}\n{re.sub('[^|]+', '---', COLUMNS)}", flush=True)  # noqa: T201
    before: dict[str, tuple[int, Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for images in options.images:
            place = (options.folder or Path(scratch)) / f"{options.tree}_{images}"
            for case in prepare(options.tree, place, images):
                if re.search(options.only or "", case.name):
                    cost = measure(case, place, strace)
                    growth = describe_growth(images, cost, before.get(case.name))
                    print(describe(case.name, images, cost) + growth, flush=True)  # noqa: T201
                    before[case.name] = images, cost


def prepare(tree: str, place: Path, images: int) -> list[Case]:
    """Build a tree unless it is there, and list what is run in it."""
    root, base = place / "tree", place / "outputs" / tree
    if not root.is_dir():
        from benchmarks.scale_trees import BUILDERS

        BUILDERS[tree](root, images)
    there = [f"dataset={tree}", f"dataset.root={root}", "clip=tiny", "sam=tiny", "logger=none"]
    there += [f"paths.outputs={place / 'outputs'}", *WORDS[tree](images)]
    alone = ["data.workers=0", "apply_step=null"]
    step = [*alone, "loop.max_steps=1", "data.batch_size=2", "data.micro_batches=1"]
    step += ["val_every=null", "loop.precision=32"]
    fresh = [f"paths.work={place / 'fresh'}", f"paths.base={base}"]
    whole = [*there, *shorten_pipeline()]
    cams = ["task=cls", "callbacks=cams", *there, *alone]
    cases = {
        "prepare": (
            "links",
            "infer",
            ["task=prepare", *there[:2], *there[5:], *PREPARE[tree](images)],
        ),
        "whole run, links": ("links", "train", whole),
        "first step of cls": ("step", "train", ["task=cls", *there, *step, *fresh]),
        "first seed": (
            "image",
            "infer",
            ["task=cls", "prompts=handwritten", *there, *alone, *fresh],
        ),
        "cls complete": ("end", "train", ["task=cls", *there, *step, "report=none"]),
        "whole run, complete": ("end", "train", whole),
        "report": ("end", "infer", ["task=report", f"run={base}"]),
        "scores of seg": ("scores", "infer", [str(base / "seeds" / "fine")]),
        "CAMs, links": ("links", "infer", [*cams, "report=none"]),
        "CAMs, complete": ("end", "infer", [*cams, "report=none"]),
        "sweep of 300": ("sweep", "train", ["-m", "task=cls", *there, *SWEEP]),
    }
    return [Case(name, *case) for name, case in cases.items()]


def name_coco(images: int) -> list[str]:
    """Name the classes of the annotations."""
    names = ",".join(f"class {index}" for index in range(80))
    return [f"dataset.classes=[{names}]", "dataset.prompt_names=null"]


def prepare_coco(images: int) -> list[str]:
    """Leave out what is fetched; count the images."""
    archives = [f"~job.archives.{part}" for part in ("train2014", "val2014", "annotations")]
    counts = [f"job.images.train2014={images}", f"job.images.val2014={images // 2}"]
    return [*archives, *counts]


WORDS = {
    "coco": name_coco,
    "voc": lambda images: [],
    "folder": lambda images: ["dataset/labels=folders"],
}
PREPARE = {
    "coco": prepare_coco,
    "voc": lambda images: [],
    "folder": lambda images: [],
}
SWEEP = [
    "prompts.contexts.length=2,4,8,16,32",
    "optimizer.lr=0.1,0.01,0.001,0.0001",
    "seed=0,1,2,3,4",
    "seeding.sams.background_power=0.2,0.4,0.6",
    "hydra.sweep.dir=${paths.base}/sweeps/scale",
]


def shorten_pipeline() -> list[str]:
    """Let every stage of the pipeline learn in one step."""
    words = [f"stages.{stage}.data.workers=0" for stage in ("superpixels", *SHORT)]
    for stage in SHORT:
        settings = ["loop.max_steps=1", "data.batch_size=2", "data.micro_batches=1"]
        settings += ["val_every=null", "loop.precision=32"]
        settings += ["apply_step=null"] if stage != "network" else []
        words += [f"stages.{stage}.{setting}" for setting in settings]
    points = ("points_per_side=2", "crop_n_layers=0")
    words += [f"stages.superpixels.module.generator.{setting}" for setting in points]
    return [*words, "network@stages.network.network=tiny"]


def measure(case: Case, place: Path, strace: bool) -> Cost:
    """Run a case, and once more under strace."""
    seconds, usage = run(case, place, [])
    operations = None
    if strace and case.until != "links":
        counts = place / "strace.txt"
        traced = ["strace", "-f", "-qq", "-c", "--seccomp-bpf", "-e", "trace=%file"]
        run(case, place, [*traced, "-o", str(counts)])
        operations = count_calls(counts.read_text())
    peak = usage.ru_maxrss / 2**20
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak, operations)


def run(case: Case, place: Path, before: Sequence[str]) -> tuple[float, os.struct_rusage]:  # type: ignore
    """Run a case in a process of its own; raises RuntimeError when it fails."""
    shutil.rmtree(place / "fresh", ignore_errors=True)
    module = ["-m", "benchmarks.scale_run", case.until, case.program, *case.words]
    start = time.perf_counter()
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, *module],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{case.name} failed:\n{(place / 'log.txt').read_text()[-3000:]}")
    return time.perf_counter() - start, usage


def count_calls(table: str) -> int:
    """Sum the calls that strace counted."""
    rows = [line.split() for line in table.splitlines()]
    return sum(
        int(row[3]) for row in rows if len(row) >= 5 and row[-1] != "total" and row[3].isdigit()
    )


def describe(name: str, images: int, cost: Cost) -> str:
    """Write what a run took."""
    return f"| {images} | {name} | {cost.seconds:.1f} | {cost.processor:.1f} | {cost.peak_gb:.2f} |"


def describe_growth(images: int, cost: Cost, before: tuple[int, Cost] | None) -> str:
    """Write what each image beyond those of the smaller tree took."""
    if before is None:
        return " | | |"
    more, (_, known) = images - before[0], before
    took = 1000 * (cost.processor - known.processor) / more
    memory = 2**20 * (cost.peak_gb - known.peak_gb) / more
    counted = cost.operations is not None and known.operations is not None
    calls = f"{(cost.operations - known.operations) / more:.1f}" if counted else ""  # type: ignore
    return f" {took:.2f} | {memory:.1f} | {calls} |"


if __name__ == "__main__":
    main()
