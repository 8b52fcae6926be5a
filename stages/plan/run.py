"""Plan a run: check it, see what is there, try what is left on a few images, say what it costs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from datamodules.choosing import spread_choice
from datamodules.folder import FolderDataModule
from fmawsss.files.downloads import Download, NotFetchedError, plan_downloads
from fmawsss.files.listing import current
from fmawsss.records import ImageRecord
from lightning_modules.memory import MemoryModule
from stages.assembly import prepare_builders
from stages.builder import StageBuilder
from stages.image_memory import find_image_memory
from stages.pipeline import list_folders
from stages.places import open_scratch, undo_folders
from stages.plan.advice import Advice, tell_advice, try_cutters
from stages.plan.left import Expected, Left, find_left
from stages.plan.rehearsal import Cost, rehearse, rehearse_slow_cut
from stages.plan.small import build_small, make_small, spare_disk
from stages.plan.stand_ins import write_squares, write_stripes
from stages.plan.table import Row, print_plan
from stages.preflight import check_run
from stages.stage import Stage
from stages.step_memory import find_step_memory

LEAST = 3  # images that a stage is tried on
BLANK = ("superpixels", "seeds")  # what blank files stand for
GUESSED = (
    "weights that are missing are random here: what depends on what a model finds, such as the "
    "number of masks, is not in these figures"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A stage of a run, what builds it, and what it has left.

    guessed: whether weights are missing, and random here.
    """

    builder: StageBuilder
    stage: Stage
    guessed: bool
    left: Left

    @property
    def makes(self) -> set[Path]:
        """The folders that the stage is yet to make, or to add to."""
        path = self.stage.output.path
        return {path, self.stage.run.work / "regions" / path.name} if self.left.applies else set()

    @property
    def reads(self) -> dict[str, Path]:
        """The folders that are read for what is left, by what they are for."""
        training = self.stage.training
        learned = training.inputs if training is not None and self.left.learns else {}
        return {**learned, **self.stage.output.inputs}


def plan_run(cfg: DictConfig, learning: bool) -> None:
    """Say what a run would cost; nothing of it is done, and nothing stays on disk.

    Raises:
        FileNotFoundError: for a model that is built as a missing file says.
    """
    folder = Path(open_scratch().name)
    current().path = None  # what is found in files is not kept
    spare_disk(cfg, folder)
    notes = ["compile=true: what it takes and saves is not timed"] if cfg.options.compile else []
    cfg.options.compile = False
    try:
        with plan_downloads() as files:
            parts = find_parts(cfg, learning, files)
            rows = [row for part in parts for row in try_part(cfg, part, parts, folder)]
            needed = [*files]  # what is only tried is not
            advice = advise(cfg, parts)
    except NotFetchedError as missing:
        raise FileNotFoundError(
            f"{missing}, and says how its model is built: fetch it first, or plan with another one"
        ) from missing
    run = parts[0].stage.run
    if "strategy" in run.trainer.keywords:
        notes.append("timed in one process, where the run has several")
    if any(part.guessed for part in parts):
        notes.append(GUESSED)
    print_plan(rows, needed, run, [*notes, *tell_advice(advice)])


def find_parts(cfg: DictConfig, learning: bool, files: Sequence[Download]) -> list[Part]:
    """Build and check all stages, and find what each has left."""
    built: list[tuple[StageBuilder, Stage, bool]] = []
    for builder in prepare_builders(cfg, learning):
        before = len(files)
        stage = builder.build()
        built.append((builder, stage, not all(file.there for file in files[before:])))

    # as a run is checked; the folders that this makes go again
    stages = [stage for _, stage, _ in built]
    expected: Expected = {}
    with undo_folders((place for stage in stages for place in list_folders(stage)), always=True):
        check_run(stages)
        return [
            Part(builder, stage, guessed, find_left(stage, guessed, expected))
            for builder, stage, guessed in built
        ]


def try_part(cfg: DictConfig, part: Part, parts: Sequence[Part], folder: Path) -> list[Row]:
    """Try what a stage has left on a few images, and describe it."""
    stage, left = part.stage, part.left
    if not left.learns and not left.applies:
        return describe_part(part, None, None)
    logger.info("%s: timing a few images", stage.name)
    cut = rehearse_slow_cut(stage)
    if cut is not None:
        return describe_part(part, None, cut)
    only = {record.name for each in parts for record in choose_sample(each)}
    made = set().union(*(each.makes for each in parts))
    inputs = {name: path for name, path in part.reads.items() if path not in made}
    for name in part.reads.keys() - inputs.keys():
        inputs[name] = stand_in(name, part, parts, only, folder)

    # what later stages read is made for all of these images, unless blank files stand for it
    later = [path for each in parts for name, path in each.reads.items() if name not in BLANK]
    small = make_small(cfg, folder / "work")
    tried = build_small(small, part.builder.place, stage, left, only, inputs)
    return describe_part(part, *rehearse(tried, left, part.makes.isdisjoint(later)))


def choose_sample(part: Part) -> list[ImageRecord]:
    """Choose images to try a stage on, at even distances."""
    data, training = part.stage.output.data, part.stage.training
    assert data.whole is not None
    count = max(LEAST, 2 * data.whole.batch_size)
    chosen = spread_choice(data.read_records(data.whole.split), count)
    if training is not None:
        records = training.data.read_records(training.split)
        shown = [record for record in records if record.labels != ()]
        chosen = [*chosen, *spread_choice(shown, count)]
    return chosen


def stand_in(name: str, part: Part, parts: Sequence[Part], only: set[str], folder: Path) -> Path:
    """Return the folder that stands for one that is not made yet: blank, or of the rehearsal."""
    stage, path = part.stage, part.reads[name]
    if name not in BLANK:
        return folder / "work" / path.relative_to(stage.run.work)
    place = folder / "blank" / stage.name / name
    data = stage.output.data
    assert data.whole is not None
    if name == "superpixels":
        records = [r for r in data.read_records(data.whole.split) if r.name in only]
        write_squares(place, records, data.whole.longest)
        return place

    # seeds show what the images are labelled with
    assert stage.training is not None
    known = {record.name: record for each in parts for record in choose_labelled(each)}
    records = stage.training.data.read_records(stage.training.split)
    write_stripes(place, [known.get(r.name, r) for r in records if r.name in only])
    return place


def choose_labelled(part: Part) -> list[ImageRecord]:
    """List the images of a stage whose labels are known, and show a class."""
    data = part.stage.output.data
    assert data.whole is not None
    return [record for record in data.read_records(data.whole.split) if record.labels]


def describe_part(part: Part, learned: Cost | None, applied: Cost | None) -> list[Row]:
    """Describe the training and the prediction of a stage in a row each."""
    rows = []
    if part.stage.training is not None:
        rows.append(describe_training(part, learned, applied))
    stage, left = part.stage, part.left
    images = left.images - left.done
    there = "complete" if not images else f"{left.done} of {left.images} images"
    if applied is None or applied.seconds is None:
        return [*rows, Row(f"{stage.name}: apply", there, f"{images} images")]
    estimated = find_image_memory(stage)
    memory = max(applied.memory, 0 if estimated is None else estimated[1])
    how = applied.how or f"{applied.timed} timed"
    alone = ", their memory alone" if isinstance(stage.module, MemoryModule) else ""
    each = f"{write_each(applied.seconds)} an image ({how}{alone})"
    seconds, disk = images * applied.seconds, images * applied.size
    row = Row(f"{stage.name}: apply", there, f"{images} images", each, seconds, memory, disk)
    return [*rows, row]


def describe_training(part: Part, cost: Cost | None, applied: Cost | None) -> Row:
    """Describe the training of a stage: its steps, validations, and views that are encoded."""
    stage, left, training = part.stage, part.left, part.stage.training
    assert training is not None
    steps = left.steps - left.step
    there = f"a checkpoint at step {left.step}" if left.step else "nothing"
    if not left.learns:
        return Row(f"{stage.name}: learn", "complete", "0 steps")
    assert cost is not None
    assert cost.seconds is not None
    seconds = steps * cost.seconds

    # beside the steps
    if cost.encoding is not None:
        views = training.data.describe_views()
        seconds += len(views.records) * views.views * cost.encoding
    if training.val_every is not None and applied is not None and applied.seconds is not None:
        seconds += steps // training.val_every * count_validated(stage) * applied.seconds
    memory = max(cost.memory, find_step_memory(stage, training) or 0)
    disk = cost.size * (steps // training.save_every + 1)
    each = f"{write_each(cost.seconds)} a step ({cost.timed} timed)"
    return Row(f"{stage.name}: learn", there, f"{steps} steps", each, seconds, memory, disk)


def count_validated(stage: Stage) -> int:
    """Count the images of a validation."""
    assert stage.training is not None
    data, view = stage.training.data, stage.training.data.validation
    if view is None or view.split is None:
        return 0
    return len(spread_choice(data.read_records(view.split), view.images))


def write_each(seconds: float) -> str:
    """Write the seconds of a step or an image.

    >>> write_each(0.01234), write_each(65.2)
    ('0.012 s', '65 s')
    """
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def advise(cfg: DictConfig, parts: Sequence[Part]) -> list[Advice]:
    """Try ways to cut photos where there is no GPU for the one that is chosen."""
    for part in parts:
        stage = part.stage
        photos = isinstance(stage.output.data, FolderDataModule) and part.left.applies
        if photos and stage.name == "superpixels" and stage.run.device.type == "cpu":
            return try_cutters(cfg, stage)
    return []
