"""One measured run of `benchmarks.scale`: `python -m benchmarks.scale_run UNTIL PROGRAM WORDS`.

PROGRAM is train or infer, WORDS are those of its command line. UNTIL says where the run ends:
`step` before the first training step, `image` before the first image is predicted, `sweep` when all
jobs are composed, `end` as ever. With `links` only the first images are predicted, what is made of
the others are links to it, and masks are linked, not painted. `scores` enters the scores of one
product.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.scale_trees import SOURCES
from fmawsss.files.journals import list_journals, stream_lines
from fmawsss.records import ImageRecord

CLASSES = tuple(f"class {index}" for index in range(80))


def main(until: str, program: str, words: Sequence[str]) -> None:
    """Run a program until a place."""
    ENDS[until]()
    if until == "scores":
        return enter_scores(Path(words[0]))
    sys.argv = [f"{program}.py", *words]
    importlib.import_module(program).main()


def leave(*_: Any, **__: Any) -> None:
    """End this process where it stands."""
    os._exit(0)


def end_at_step() -> None:
    """End before the first training step, its batch being read."""
    from lightning_modules.network import NetworkModule
    from lightning_modules.prompts import PromptModule

    PromptModule.training_step = NetworkModule.training_step = leave  # type: ignore


def end_at_image() -> None:
    """End before the first image is predicted, its batch being read."""
    from lightning_modules.prompts import PromptModule
    from lightning_modules.superpixels import SuperpixelModule

    PromptModule.predict_step = SuperpixelModule.predict_step = leave  # type: ignore


def end_at_sweep() -> None:
    """End when all jobs of a sweep are composed; Hydra imports its sweeper after this."""
    import stages.sweeps.jobs

    stages.sweeps.jobs.enter_jobs = leave  # type: ignore


def make_links() -> None:
    """Let the images behind the first ones be links to what was made of those."""
    import datamodules.coco
    import stages.apply

    stages.apply.make_images = partial(predict_first, stages.apply.make_images)
    datamodules.coco.write_painted_mask = link_mask  # type: ignore


def link_mask(folder: Path, image: Any, regions: Any, classes: Any, source: Path) -> None:
    """Link the mask that the image was drawn with."""
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(image.file).stem
    drawn = source.parents[1] / "sources" / f"{int(name[-12:]) % SOURCES}.png"
    os.link(drawn, folder / f"{name}.png")


def predict_first(
    make: Callable[..., Any],
    stage: Any,
    checkpoint: Path | None,
    writers: Sequence[Any],
    remaining: Sequence[ImageRecord],
) -> Any:
    """Predict the first images, and link what is made of them under the names of the others."""
    first = remaining[:SOURCES]
    trainer = make(stage, checkpoint, writers, first)
    path, work = stage.output.path, stage.run.work
    for folder in (path, work / "overlays", work / "cams" / path.name):
        if (file := find_file(folder, first[0].name)) is None:
            continue
        if folder.parent.name == "seeds":  # tiny models see none of the classes
            for record in first:
                if record.truth is not None:
                    shutil.copy(record.truth, folder / f"{record.name}.png")
        for number, record in enumerate(remaining[SOURCES:], start=SOURCES):
            made = folder / f"{first[number % SOURCES].name}{file.suffix}"
            target = folder / f"{record.name}{file.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(made, target)
    copy_lines(path, remaining)
    return trainer


def find_file(folder: Path, name: str) -> Path | None:
    """Find what a folder holds of an image."""
    return next(iter(folder.glob(f"{name}.*")), None)


def copy_lines(product: Path, records: Sequence[ImageRecord]) -> None:
    """Say in the journal of each image what it says of the one that it is a link to."""
    journal = list_journals(product)[-1]
    known = {line["name"]: line for line in stream_lines(journal)}
    with journal.open("a") as file:
        for number, record in enumerate(records[SOURCES:], start=SOURCES):
            truth = None if record.truth is None else str(record.truth.absolute())
            own = {"name": record.name, "image": str(record.image.absolute()), "truth": truth}
            file.write(json.dumps({**known[records[number % SOURCES].name], **own}) + "\n")


def enter_scores(product: Path) -> None:
    """Enter the scores of all images of a product."""
    from stages.scores import enter_scores as enter

    parts = {"all": list_names(product)}
    enter(product.parent / "scale_scores.json", "scale", product, parts, CLASSES)


def list_names(product: Path) -> list[str]:
    """List the images of a product."""
    with os.scandir(product) as entries:
        return sorted(entry.name.rpartition(".")[0] for entry in entries)


def go_on() -> None:
    """End as ever."""


ENDS: dict[str, Callable[[], None]] = {
    "step": end_at_step,
    "image": end_at_image,
    "sweep": end_at_sweep,
    "links": make_links,
    "scores": go_on,
    "end": go_on,
}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
