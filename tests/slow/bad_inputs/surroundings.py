"""Bad inputs: locks, and the disks, links and permissions of disks.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import SoftFileLease

from fmawsss.files.json_files import write_json
from fmawsss.files.locks import LEASE, describe_process

from .disks import CASES as DISKS
from .judge import BadInput
from .project import infer, train

HELD: list[SoftFileLease] = []  # by the judge, which lives on


def hold(lock: str, spoil: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    """Hold the lock of a product as another run would; `spoil` gives the command work to do."""

    def prepare(folder: Path) -> None:
        if spoil is not None:
            spoil(folder)
        path = folder / lock
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = SoftFileLease(path, lease_duration=LEASE)
        lease.acquire(timeout=0)
        HELD.append(lease)
        write_json(path.with_name(f"{path.name}.json"), describe_process())

    return prepare


def hold_elsewhere(folder: Path) -> None:
    """Leave the lock of a run on another machine that was renewed just now."""
    path = folder / "outputs/shapes/seeds/.fine.1.lock"
    lines = ["filelock/2", "pid=1", "host=node7", "mode=lease", "token=ab", f"duration={LEASE}"]
    path.write_text("\n".join(lines) + "\n")
    owner = {**describe_process(), "host": "node7", "process": 1}
    write_json(path.with_name(f"{path.name}.json"), owner)


def lose_a_mask(folder: Path) -> None:
    """Remove one of the masks."""
    next(iter(sorted((folder / "outputs/shapes/masks").glob("*.png")))).unlink()


TELLS = r"another run works on it \(process \d+ on \S+ since 20"
CASES: list[BadInput] = [
    *DISKS,
    BadInput(
        "superpixels_in_the_making", "surroundings", infer("superpixels"),
        hold("outputs/shapes/.superpixels.1.lock"), "superpixels", TELLS,
    ),
    BadInput(
        "prompts_in_training", "surroundings", train("cls"),
        hold("outputs/shapes/.cls.ckpt.lock"), r"cls\.ckpt", TELLS,
    ),
    BadInput(
        "masks_in_the_making", "surroundings", infer("network"),
        hold("outputs/shapes/.masks.1.lock", lose_a_mask), "masks", TELLS,
    ),
    BadInput(
        "shard_at_work_overwritten", "surroundings", train("seg", "overwrite=true"),
        hold("outputs/shapes/seeds/.fine.2.lock"), "seeds/fine", TELLS,
    ),
    BadInput(
        "same_shard_twice", "surroundings", infer("superpixels", "shard=2/3"),
        hold("outputs/shapes/.superpixels.2.lock"), "superpixels", "paths.work=DIR",
    ),
    BadInput(
        "seeds_made_on_another_machine", "surroundings", infer("seg"),
        hold_elsewhere, "seeds/fine", r"process 1 on node7 since 20.*paths\.work=DIR",
    ),
    BadInput(
        "sweep_twice", "surroundings",
        ["train.py", "-m", *train("cls", "seed=0,1", "hydra.sweep.dir=twice")[1:]],
        hold("twice/.lock"), "twice", r"hydra\.sweep\.dir=DIR",
    ),
]  # fmt: skip
