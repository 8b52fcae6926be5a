"""All sources of evidence in one table: `python -m benchmarks.evidence dataset=voc trainer=gpu`.

Runs the project's own commands on a data set with truth, with hand-written prompts, so that nothing
but the network is learned. A text-prompted source takes part when its weights are in the folder of
weights; the others are named and left out. What is complete is not made again. The table goes to
`evidence.md`, `evidence.json` and `report.html` of the results.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmawsss.files.json_files import read_json, write_json
from fmawsss.files.products import read_record
from fmawsss.files.writing import write_bytes
from fmawsss.text_prompted.weights import FILES
from stages.reports.evidence import EVIDENCE_FILE, write_markdown

ROOT = Path(__file__).parents[1]
FOLDERS = {"sam3": "sam3", "grounding_dino": "grounding-dino-base"}  # of weights
COLUMNS = ("CAM", "CAA", "SAMS", "+ memory", "text-prompted", "fused", "network")
CAPTIONS, MASKS = "captions (CLIP)", "masks without classes (SAM)"
PHRASES = {
    "sam3": "masks with phrases (SAM 3)",
    "grounding_dino": "boxes with phrases (Grounding DINO)",
}
SUPERVISION = {  # of a source alone
    "sam3": PHRASES["sam3"],
    "grounding_dino": f"{PHRASES['grounding_dino']}, {MASKS}",
}
OWN = ("task", "paths.outputs", "paths.weights", "paths.work", "paths.base", "evidence", "split")


@dataclass
class Commands:
    """Runs commands of the project, and remembers them.

    words: what every command gets.
    """

    words: Sequence[str]
    run_so_far: list[str] = field(default_factory=list)

    def run(self, door: str, *words: str) -> None:
        """Run a command; raises CalledProcessError when it fails."""
        command = [door, *words, *self.words]
        self.run_so_far.append(shlex.join(["python", *command]))
        subprocess.run([sys.executable, str(ROOT / door), *command[1:]], check=True, cwd=Path.cwd())


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all that the table compares, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="of every command: dataset=voc trainer=gpu")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--no-network", action="store_true", help="learn no network")
    options = parser.parse_args(arguments)
    if strange := [word for word in options.words if word.split("=")[0] in OWN]:
        parser.error(f"{strange[0]} is for this benchmark to choose; see --outputs and --weights")

    # which sources have weights
    sources = [name for name in FOLDERS if not list_missing(name, options.weights)]
    for name in FOLDERS.keys() - sources:
        (missing, *_) = list_missing(name, options.weights)
        print(f"without {name}: {missing} is missing (docs/evidence.md)")  # noqa: T201

    # make everything, and put it together
    dataset = next((w.split("=")[1] for w in options.words if w.startswith("dataset=")), "shapes")
    work = options.outputs / dataset
    places = [f"paths.outputs={options.outputs}", f"paths.weights={options.weights}"]
    phrases = [word for word in options.words if word.startswith("dataset.phrases")]
    commands = Commands([word for word in options.words if word not in phrases] + places)
    run_all(commands, sources, phrases, work, not options.no_network)
    found = {
        **build_table(read_json(work / "scores.json"), sources, work),
        "seed": next((w[5:] for w in options.words if w.startswith("seed=")), "0"),
        "commands": [*commands.run_so_far],
        "products": list_products(work),
        "files": digest_files(options.weights),
    }
    write_json(work / EVIDENCE_FILE, found)
    write_bytes((work / EVIDENCE_FILE).with_suffix(".md"), write_markdown(found).encode())
    commands.run("infer.py", "task=report", f"run={work}")
    print(write_markdown(found))  # noqa: T201


def list_missing(source: str, weights: Path) -> list[Path]:
    """List the files of weights that a source lacks."""
    files = [weights / FOLDERS[source] / name for name in FILES]
    return [path for path in files if not path.is_file()]


def run_all(
    commands: Commands, sources: Sequence[str], phrases: Sequence[str], work: Path, network: bool
) -> None:
    """Make seeds by CLIP, by each text-prompted source and by both, and networks that learn."""
    written = ["learn=network", "memory=regions"]
    commands.run("infer.py", "task=superpixels")
    commands.run("infer.py", "task=cls", *written)
    commands.run("infer.py", "task=memory")
    for source in sources:
        regions = f"regions={work}/regions/{source}"
        commands.run("infer.py", "task=text", f"evidence={source}", "memory=regions", *phrases)
        commands.run("infer.py", "task=memory", "evidence=fused", regions)
    if network:
        for name, seeds in list_networks(sources).items():
            place = [f"paths.work={work}/{name}", f"paths.base={work}"]
            commands.run("train.py", "task=network", f"seeds={work}/seeds/{seeds}", *place)


def list_networks(sources: Sequence[str]) -> dict[str, str]:
    """Name the networks, each with the seeds that it learns from: never chosen by truth."""
    fused = {f"network_{source}": f"{source}_and_coarse_memory" for source in sources}
    return fused or {"network_clip": "coarse_memory"}


def build_table(scores: Mapping[str, Any], sources: Sequence[str], work: Path) -> dict[str, Any]:
    """Put the mIoU of each part into rows, one per source, with the supervision that it had."""
    split = next(iter(scores["cls"]))
    shared = [find_score(scores, "cls", split, kind) for kind in ("cam", "caa", "sams")]
    shared.append(find_score(scores, "coarse_memory", split, "memory"))
    own = f"{CAPTIONS}, {MASKS}"
    rows = []
    for source in sources or [None]:
        text = find_score(scores, source, split, "text")
        fused = find_score(scores, f"{source}_and_coarse_memory", split, "memory")
        network = find_network(work / f"network_{source or 'clip'}" / "scores.json")
        asked = SUPERVISION[source] if source else None
        both = f"{own}, {PHRASES[source]}" if source else None
        rows.append(
            {
                "source": source or "no text-prompted source",
                "miou": [*shared, text, fused, network],
                "supervision": [CAPTIONS, CAPTIONS, own, own, asked, both, both or own],
            }
        )
    return {"columns": list(COLUMNS), "split": split, "rows": rows}


def find_network(path: Path) -> float | None:
    """Find the mIoU of a network on images with truth; None where it was not learned or scored."""
    scores = read_json(path).get("network", {}) if path.is_file() else {}
    found = [parts["network"]["miou"] for parts in scores.values() if "network" in parts]
    return float(found[0]) if found else None


def find_score(scores: Mapping[str, Any], stage: str | None, split: str, kind: str) -> float | None:
    """Find the mIoU of a kind of masks; None where there is none."""
    found = scores.get(stage or "", {}).get(split, {}).get(kind)
    return None if found is None else float(found["miou"])


def list_products(work: Path) -> dict[str, dict[str, Any]]:
    """List the fingerprint of each product, and the digest of the weights that made it."""
    folders = [work / "superpixels", *sorted(path for path in (work / "seeds").iterdir())]
    records = {path: read_record(path) for path in folders if path.is_dir()}
    return {
        str(path.relative_to(work)): {
            "fingerprint": record["fingerprint"],
            "weights": record["settings"].get("weights"),
        }
        for path, record in records.items()
        if record is not None
    }


def digest_files(folder: Path) -> dict[str, str]:
    """Digest each file in the folder of weights (SHA-256)."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[str(path.relative_to(folder))] = digest
    return found


if __name__ == "__main__":
    main()
