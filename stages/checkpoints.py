"""Which checkpoint a stage is applied with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fmawsss.files.hub import find_model, is_repository
from fmawsss.files.tensor_files import MODEL
from stages.stage import Run, Stage


def find_checkpoint(stage: Stage) -> Path:
    """Return the checkpoint to apply: the one asked for (a path or a step), or the stage's own."""
    if stage.adopted is not None:
        return stage.adopted
    chosen = stage.run.ckpt or stage.output.apply_step or stage.checkpoint
    return find_file(stage.run, chosen, stage.checkpoint, stage.steps)


def find_network(run: Run, checkpoint: Path, steps: Path) -> Path:
    """Return the checkpoint of a network: as asked for, of this data set, or the only one of all.

    Raises FileNotFoundError naming the command that makes one, and those of other data sets.
    """
    others = sorted(run.outputs.glob(f"*/{checkpoint.name}")) if run.ckpt is None else []
    try:
        return find_file(run, run.ckpt or checkpoint, checkpoint, steps, others)
    except FileNotFoundError:
        if len(others) == 1:
            return others[0]
        raise


def find_file(
    run: Run, chosen: Path | str | int, checkpoint: Path, steps: Path, others: Sequence[Path] = ()
) -> Path:
    """Return the file of a checkpoint named by a path or a step, here or where the base run is.

    One that travels may be named by its folder, or its repository on Hugging Face's hub.
    Raises FileNotFoundError naming the command that makes it.
    """
    path = steps / f"step_{int(chosen):06d}.ckpt" if str(chosen).isdigit() else Path(chosen)
    places = [path]
    if path.is_relative_to(run.work):  # a sweep's job finds what the base run learned
        places.append(run.base / path.relative_to(run.work))
    for place in places:
        if place.is_file():
            return place
    if (path / MODEL).is_file() or is_repository(path):
        return find_model(path)
    task = checkpoint.stem
    choice = f"one of {', '.join(map(str, others))}" if others else "PATH"
    raise FileNotFoundError(
        f"{path}: no checkpoint of stage {task}; make it with "
        f"`python train.py task={task} dataset={run.dataset}`, or name one with ckpt={choice}"
    )
