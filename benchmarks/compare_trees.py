"""Whether two checkouts make the same products: `python -m benchmarks.compare_trees OLD_TREE`.

The commands of `tree_commands.txt` run in OLD_TREE (`git worktree add OLD_TREE fb74c13`) and in
this tree, one after the other, on one thread; then all products are compared to the bit. Every
tree runs in a folder of its own with relative paths, so that both write the same names. With
`--folder DIR`, commands that ended well are not run again: remove `DIR/new` to try another version.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.product_differences import find_differences, list_products
from benchmarks.tree_inputs import write_photos, write_voc

ROOT = Path(__file__).parents[1]
COMMANDS = Path(__file__).with_name("tree_commands.txt")

# What differs because it was changed on purpose: file, part of the file, why
ON_PURPOSE = (
    ("*.npz", "fingerprint", "settings have other names, so other fingerprints"),
    ("outputs/voc*/pictures/*.png", "*", "class names in pictures, no words of prompts"),
    ("*/summary.csv", "header", "what a sweep varies is named by its full key"),
    ("*/pictures/*/rows/*.png", "file", "rows of pictures are kept, so that a kill changes none"),
    ("*/cams/*.npz", "recipe", "CAM files say which stage made them"),
    ("outputs/classic/*superpixels*", "*", "classic superpixels are a few hundred larger regions"),
    ("*/effects.png", "*", "the same names in plots"),
    ("*/interactions.png", "*", "the same names in plots"),
)

FEW = "data.batch_size=4 data.micro_batches=1 data.workers=0 val_every=null loop.precision=32-true"
STAGES = ("cls", "seg", "network")
# What stands for the {words} of the commands, with --quick and without
QUICK = {
    "voc_images": "6",
    "photos": "4",
    "images": "dataset.train_images=6 dataset.val_images=3",
    "points": "stages.superpixels.module.generator.points_per_side=4",
    "pipeline": " ".join(f"stages.{s}.loop.max_steps=3 stages.{s}.save_every=1" for s in STAGES),
    "steps": "loop.max_steps=3 save_every=1",
}
DEFAULT = {
    "voc_images": "24",
    "photos": "12",
    "images": "",
    "points": "",
    "pipeline": "",
    "steps": "loop.max_steps=20 save_every=10",
}


@dataclass(frozen=True)
class Command:
    """One command in the words of both trees."""

    old: str
    new: str


@dataclass(frozen=True)
class Difference:
    """A file that both trees should have made alike: the first part that differs, and how."""

    file: str
    part: str
    how: str

    @property
    def purpose(self) -> str | None:
        """Why it is meant to differ, if it is."""
        for file, part, why in ON_PURPOSE:
            if fnmatch(self.file, file) and fnmatch(self.part, part):
                return why
        return None


def main(words: Sequence[str] | None = None) -> None:
    """Run all commands in both trees, print the table; exit 1 where products differ by mistake."""
    options = read_options(words)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="compare-trees-"))
    settings = QUICK if options.quick else DEFAULT
    commands = read_commands(COMMANDS.read_text(), settings)

    # run: the older tree first, command by command
    failed = []
    trees = {"old": options.old_tree.resolve(), "new": options.new_tree.resolve()}
    for name in trees:
        write_inputs(folder / name, settings)
    for number, command in enumerate(commands, start=1):
        print(f"{number}/{len(commands)} {command.new}", flush=True)  # noqa: T201
        for name, tree in trees.items():
            failed += run_command(tree, folder / name, getattr(command, name), number)

    # compare, and show
    differences = list(compare_folders(folder / "old", folder / "new"))
    print("\n".join(["", *list_rows(folder / "old", differences)]))  # noqa: T201
    strange = [difference for difference in differences if difference.purpose is None]
    print("\n".join(["", *failed, f"results and logs are in {folder}"]))  # noqa: T201
    if failed or strange:
        sys.exit(f"{len(failed)} commands failed, {len(strange)} products differ")


def read_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.compare_trees", description=__doc__)
    parser.add_argument("old_tree", type=Path)
    parser.add_argument("--new-tree", type=Path, default=ROOT, help="otherwise this tree")
    parser.add_argument("--quick", action="store_true", help="few images, few steps")
    parser.add_argument("--folder", type=Path, help="where to run; otherwise a temporary folder")
    return parser.parse_args(words)


def read_commands(text: str, settings: Mapping[str, str]) -> list[Command]:
    """Read the list of commands; a line `old: …` has the old words of the line below it."""
    few = f"{settings['steps']} {FEW}"
    pipeline = " ".join(f"stages.{stage}.{word}" for stage in STAGES for word in few.split())
    words = {**settings, "alone": few, "short_pipeline": pipeline, "tiny": "clip=tiny sam=tiny"}
    lines = [line for line in text.splitlines() if line and line[0] != "#"]

    commands, before = [], None
    for line in lines:
        if line.startswith("old: "):
            before = line.removeprefix("old: ")
        else:
            old = (before or line).format(**words, published="")
            commands.append(Command(old.strip(), line.format(**words, published="memory=none")))
            before = None
    return commands


def write_inputs(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the images that are not generated by the commands themselves."""
    if folder.exists():
        return
    photos = int(settings["photos"])
    write_voc(folder / "data/VOCdevkit/VOC2012", int(settings["voc_images"]))
    write_photos(folder / "photos", seed=2, images=photos)
    write_photos(folder / "new_photos", seed=3, images=photos)


def run_command(tree: Path, folder: Path, command: str, number: int) -> Iterator[str]:
    """Run one command of a tree in the folder; yield one line if it fails."""
    door, *words = command.split()
    places = ["paths.data=data", "paths.outputs=outputs"]
    environment = {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    offline = {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "HYDRA_FULL_ERROR": "1"}

    log, start = folder / f"{number:02}.log", time.monotonic()
    mark = log.with_suffix(".done")
    if mark.is_file() and mark.read_text() == command:
        return
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, str(tree / door), *words, *places],
            cwd=folder,
            env={**os.environ, **environment, **offline},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    print(f"  {folder.name} {time.monotonic() - start:.0f} s", flush=True)  # noqa: T201
    if done.returncode == 0:
        mark.write_text(command)
    else:
        said = log.read_text().strip().splitlines() or ["nothing said"]
        yield f"FAILED in {folder.name}: {command}\n  {said[-1]} ({log})"


def compare_folders(old: Path, new: Path) -> Iterator[Difference]:
    """Yield the first difference of each product."""
    made, remade = list_products(old), list_products(new)
    for file in [*made, *(file for file in remade if file not in set(made))]:
        if not (old / file).exists() or not (new / file).exists():
            yield Difference(file, "file", f"only {'old' if (old / file).exists() else 'new'}")
            continue
        for part, how in find_differences(old / file, new / file):
            yield Difference(file, part, how)


def list_rows(folder: Path, differences: Sequence[Difference]) -> Iterator[str]:
    """Write a Markdown table with a row for each kind of file in each folder."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in {*list_products(folder), *(difference.file for difference in differences)}:
        parts = ["*" if part.isdigit() else part for part in Path(file).parent.parts]
        groups[str(Path(*parts, f"*{Path(file).suffix}"))].append(file)
    found: dict[str, list[Difference]] = defaultdict(list)
    for difference in differences:
        found[difference.file].append(difference)

    yield "| products | files | equal | on purpose | differ | first difference |"
    yield "|---" * 6 + "|"
    for group, files in sorted(groups.items()):
        strange = [d for file in sorted(files) for d in found[file] if d.purpose is None]
        differ = {difference.file for difference in strange}
        meant = {file for file in files if found[file]} - differ
        equal = len(files) - len(differ) - len(meant)
        first = f"{strange[0].file}, {strange[0].part}: {strange[0].how}" if strange else ""
        yield f"| {group} | {len(files)} | {equal} | {len(meant)} | {len(differ)} | {first} |"


if __name__ == "__main__":
    main()
