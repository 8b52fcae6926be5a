"""What loggers get of a stage: scalars for all, pictures, tables and artifacts where they can.

Every logger gets the same scalars; TensorBoard and W&B get pictures too, W&B also tables, masks to
switch on and off, and artifacts: checkpoint, product and resolved config, by name and fingerprint,
and which ones they were made from.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from fmawsss.files.images import read_image
from fmawsss.files.products import read_fingerprint
from fmawsss.metrics import IGNORE, SegmentationMetrics
from fmawsss.viz import PANEL_SIDE, colour_heatmap, draw_panel
from stages.reports.image_ranks import Line, rank_images
from stages.reports.lines import ReportLines
from stages.reports.overviews import Overview, gather_overview
from stages.reports.report import RunFolder, StageNote

logger = logging.getLogger(__name__)

PANELS = 8  # images shown as panels
TABLE_ROWS = 16  # images in a table
CELL = 16  # pixels of a class in the picture of a confusion matrix
MOST_FILES = 10**7  # of a folder that is referred to


@dataclass(frozen=True)
class StageResult:
    """A finished stage, as dashboards show it."""

    stage: StageNote
    folder: RunFolder
    scores: Mapping[str, Mapping[str, SegmentationMetrics]]  # by split and kind
    config: Mapping[str, Any]
    learned: Sequence[Path]  # by this very run
    step: int  # to log at: the last one of the training, 0 without one

    def list_products(self) -> list[Path]:
        """List the files and folders that the stage made, and the resolved config of the run."""
        configs = [run["folder"] / "config.yaml" for run in self.folder.runs[-1:]]
        return [*self.learned, self.stage.product, *configs]

    def list_sources(self) -> dict[str, str]:
        """List the products that the stage was made from, with their fingerprints."""
        return {name_artifact(path): read_fingerprint(path) for path in self.stage.sources.values()}

    def list_scalars(self) -> dict[str, float]:
        """Name every score, `scores/<split>/<kind>/miou`."""
        named: dict[str, float] = {}
        for split, kinds in self.scores.items():
            for kind, score in kinds.items():
                named |= score.name_values(f"scores/{split}/{kind}")
        return named

    def read_lines(self) -> ReportLines:
        """Read what the journal says of the images."""
        return self.folder.read_lines(self.stage)

    def gather_overviews(self, lines: Sequence[Line]) -> list[Overview]:
        """Read the overviews of images, leaving out those whose files are gone."""
        overviews = (gather_overview(self.folder, line) for line in lines)
        return [overview for overview in overviews if overview is not None]

    def read_picture(self) -> np.ndarray | None:
        """Read the picture that the stage wrote, `pictures/<product>.png`."""
        path = self.folder.path / "pictures" / f"{self.stage.product.name}.png"
        return read_image(path) if path.is_file() else None


@rank_zero_only
def publish_stage(
    loggers: Sequence[Logger],
    work: Path,
    stage: StageNote,
    scores: Mapping[str, Mapping[str, SegmentationMetrics]],
    config: Mapping[str, Any],
    learned: Sequence[Path],
    step: int,
) -> None:
    """Give a finished stage, with its resolved config, to its loggers."""
    result = StageResult(stage, RunFolder(work), scores, config, learned, step)
    scalars = result.list_scalars()
    for open_logger in loggers:
        # Scores: one value each, which W&B shows in the summary of a run
        if isinstance(open_logger, WandbLogger):
            open_logger.experiment.summary.update(scalars)
        elif scalars:
            open_logger.log_metrics(scalars, result.step)
            open_logger.save()

        # More for those that can show it
        if isinstance(open_logger, TensorBoardLogger):
            totals = {key: value for key, value in scalars.items() if key.endswith("/miou")}
            open_logger.log_hyperparams(dict(result.config), totals)
            show_in_tensorboard(open_logger.experiment, result)
        if isinstance(open_logger, WandbLogger):
            show_in_wandb(open_logger.experiment, result)
            limit = getattr(open_logger, "stored_mb", math.inf)
            store_in_wandb(open_logger.experiment, result, limit)


def show_in_tensorboard(writer: Any, result: StageResult) -> None:
    """Add the stage's picture, panels of chosen images, and the confusion matrix."""
    # Pictures
    picture = result.read_picture()
    if picture is not None:
        writer.add_image("pictures", picture, result.step, dataformats="HWC")
    for title, lines in choose_lines(result).items():
        overviews = result.gather_overviews(lines[:PANELS])
        rows = [list(overview.draw().items()) for overview in overviews]
        if rows:
            panel = draw_panel(rows, PANEL_SIDE)
            writer.add_image(title, panel, result.step, dataformats="HWC")

    # The confusion matrix, each row as shares of its class
    counts = result.read_lines().confusion
    if counts is not None:
        shares = (counts[:, :-1] / counts.sum(dim=1, keepdim=True).clamp_min(1)).float().numpy()
        cells = colour_heatmap(shares).repeat(CELL, axis=0).repeat(CELL, axis=1)
        writer.add_image("confusion", cells, result.step, dataformats="HWC")
    writer.flush()


def choose_lines(result: StageResult) -> dict[str, list[Line]]:
    """Choose the images to show: the first ones, and those that `rank_images` finds."""
    lines = result.read_lines()
    ranked = rank_images(lines, TABLE_ROWS)
    return {
        "panels": list(islice(lines.values(), PANELS)),
        **{name: [line for line, _ in found] for name, found in ranked.items()},
    }


def show_in_wandb(run: Any, result: StageResult) -> None:
    """Log panels with masks to switch on and off, tables of images, and the confusion matrix."""
    import wandb

    # Pictures
    legend = dict(enumerate(result.stage.classes)) | {IGNORE: "ignored"}
    picture, lines = result.read_picture(), result.read_lines()
    shown: dict[str, Any] = {} if picture is None else {"pictures": wandb.Image(picture)}
    overviews = result.gather_overviews(list(islice(lines.values(), PANELS)))
    panels = [image for overview in overviews for image in list_wandb_images(overview, legend)]
    if panels:
        shown["panels"] = panels

    # Tables
    for title, found in rank_images(lines, TABLE_ROWS).items():
        shown[f"images/{title.replace(' ', '_')}"] = tabulate_images(result, found, legend)
    counts = lines.confusion
    if counts is not None:
        shown["confusion"] = plot_confusion(counts, result.stage.classes)
    if shown:
        run.log(shown)


def list_wandb_images(overview: Overview, legend: Mapping[int, str]) -> list[Any]:
    """Make one image with every mask laid over it, and one for each picture."""
    import wandb

    masks = {
        name: {"mask_data": mask, "class_labels": dict(legend)}
        for name, mask in overview.masks.items()
    }
    pictures = [
        wandb.Image(picture, caption=f"{overview.name}: {caption}")
        for caption, picture in overview.pictures.items()
    ]
    return [wandb.Image(overview.image, masks=masks or None, caption=overview.name), *pictures]


def tabulate_images(
    result: StageResult, found: Sequence[tuple[Line, str]], legend: Mapping[int, str]
) -> Any:
    """Make a table of images, what each was chosen by, and the classes that it is labelled with."""
    import wandb

    table = wandb.Table(columns=["name", "because", "labels", "image"])
    for line, remark in found:
        for overview in result.gather_overviews([line]):
            names = [result.stage.classes[label + 1] for label in line.get("labels") or ()]
            image = list_wandb_images(overview, legend)[0]
            table.add_data(overview.name, remark, ", ".join(names), image)
    return table


def plot_confusion(counts: torch.Tensor, classes: Sequence[str]) -> Any:
    """Plot a confusion matrix from counts, as `wandb.plot.confusion_matrix` does from samples."""
    import wandb

    rows = [
        [classes[truth], classes[guess], int(counts[truth, guess])]
        for truth, guess in product(range(len(classes)), repeat=2)
    ]
    table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)
    fields = {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}
    return wandb.plot_table(
        "wandb/confusion_matrix/v1", table, fields, {"title": "confusion, pixels"}
    )


def store_in_wandb(run: Any, result: StageResult, limit: float) -> None:
    """Store what the stage made as artifacts, and link those that it was made from.

    What has more than `limit` megabytes is only referred to where it lies; 0 stores nothing at all.
    Offline a run can use no artifact; names and fingerprints in its config and in the artifacts say
    the same.
    """
    import wandb

    # What the stage was made from
    sources = result.list_sources()
    run.config.update({**result.config, "made_from": sources}, allow_val_change=True)
    if limit == 0:
        return
    for name, digest in sources.items() if not run.offline else ():
        try:
            run.use_artifact(f"{name}:{digest}")
        except (wandb.errors.CommError, ValueError) as error:
            logger.warning("no artifact %s to link this run to (%s)", name, error)

    # What it made
    for path in result.list_products():
        artifact = wandb.Artifact(
            name_artifact(path), type=find_type(path), metadata={"made_from": sources}
        )
        if measure_bytes(path) > limit * 1e6:
            uri = path.absolute().as_uri()
            artifact.add_reference(uri, checksum=path.is_file(), max_objects=MOST_FILES)
        elif path.is_dir():
            artifact.add_dir(str(path), policy="immutable", skip_cache=True)
        else:
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=["latest", read_fingerprint(path)])


def find_type(path: Path) -> str:
    """Say what kind of artifact a product is: `model`, `dataset`, or the `config` of a run."""
    if path.suffix == ".ckpt":
        return "model"
    return "config" if path.suffix == ".yaml" else "dataset"


def measure_bytes(path: Path) -> int:
    """Measure a file, or all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def name_artifact(path: Path) -> str:
    """Name an artifact after the end of its path.

    >>> name_artifact(Path("outputs/shapes/seeds/coarse"))
    'shapes-seeds-coarse'
    """
    return re.sub(r"[^\w.-]", "_", "-".join(path.absolute().parts[-3:]))
