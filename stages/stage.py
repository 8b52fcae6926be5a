"""What a stage is: one record, made once by the door, that nothing asks a config about again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.progress import follow_progress
from callbacks.stage_timer import StageTimer
from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits, name_splits
from fmawsss.files.features import FeatureStore
from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.images import TURNED_TIFFS, is_turned_tiff
from fmawsss.files.locks import wait_lock
from fmawsss.files.products import Product, read_fingerprint, require_unchanged
from lightning_modules.learned import FrozenWeights, digest_frozen, learns
from stages.devices import choose_products
from stages.signals import answer_alone
from stages.versions import list_versions
from stages.whole_checkpoints import WholeCheckpoints

logger = logging.getLogger(__name__)

Exports = Mapping[str, Callable[..., None]]


@dataclass(frozen=True)
class FeatureCache:
    """Where features of fixed views are kept, and what opens a store of them."""

    folder: Path
    dtype: str
    open: Callable[..., FeatureStore]


@dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    folder: of this run's records and logs; `work` holds the products, `base` those that a sweep's
        jobs read, `outputs` those of all data sets.
    typed: the words of the command line, in full.
    dataset: its name on the command line; `photos` the folder of a data set of photos, `others`
        stands behind products where `work` is of another one.
    stages: the names of all stages of the run.
    ckpt: the checkpoint to apply, a path or a step; None takes the stage's own.
    shard: `3/16` applies a stage to a share of the images.
    cache: opens the store of features of fixed views; None encodes every view anew.
    """

    folder: Path
    work: Path
    base: Path
    outputs: Path
    typed: Sequence[str]
    dataset: str
    photos: Path | None
    others: str
    stages: Sequence[str]
    overwrite: bool
    ckpt: str | None
    shard: str | None
    seed: int
    precision: str
    cache: FeatureCache | None
    trainer: partial[L.Trainer]
    loggers: Mapping[str, Callable[..., Logger]]

    @property
    def on_cpu(self) -> bool:
        """Say whether stages are computed on the CPU."""
        return str(self.trainer.keywords.get("accelerator", "cpu")) == "cpu"

    @property
    def device(self) -> torch.device:
        """The device that stages are computed on, as far as it is known before a trainer is."""
        gpu = not self.on_cpu and torch.cuda.is_available()
        return torch.device("cuda" if gpu else "cpu")

    def build_trainer(
        self,
        stage: str,
        action: str,
        callbacks: Sequence[L.Callback],
        settings: Mapping[str, Any],
    ) -> L.Trainer:
        """Build the trainer of a stage, its own settings on top; `action` names predictions.

        A CPU computes what is meant for float16 in float32: it has no float16 of its own.
        """
        precision = str(settings.get("precision", self.precision))
        if precision == "16-mixed" and self.on_cpu:
            logger.info("%s: in 32-true on a CPU, 16-mixed is for a GPU", stage)
            settings = {**settings, "precision": "32-true"}
        choose_products(stage, self.device, precision, learns=action == "learn")
        if (profiler := self.trainer.keywords.get("profiler")) is not None:
            settings = {**settings, "profiler": profiler(filename=f"{stage}_{action}")}
        timer = StageTimer(self.folder, stage, action)
        progress = follow_progress(stage, action, self.stages)
        beside = [*callbacks, progress, timer]
        trainer = self.trainer(
            **settings,
            callbacks=beside,
            plugins=[WholeCheckpoints()],
            default_root_dir=self.work,
        )
        return answer_alone(trainer)


@dataclass(frozen=True)
class Training:
    """How a stage learns: from which data, for how long, what it leaves.

    inputs: folders that its data come from; their content counts.
    identity: the settings that the checkpoint depends on, as plain data.
    view: those of them that the training views depend on.
    """

    data: SegmentationDataModule
    split: Splits
    inputs: Mapping[str, Path]
    identity: Mapping[str, Any]
    view: Mapping[str, Any]
    loop: Mapping[str, Any]
    save_every: int
    val_every: int | None
    watchers: Mapping[str, L.Callback]
    averaging: Sequence[L.Callback]


@dataclass(frozen=True)
class Output:
    """What a stage makes of whole images, and how it is written.

    path: a folder with a file per image, or one file.
    inputs: folders that its data come from; their content counts.
    identity: the settings that the product depends on, as plain data.
    make_writers: makes what writes the product and what goes beside it, for the names of all
        images, anew at every call.
    also_scored: splits within the split, scored by themselves as well.
    grows: images may be added; those that are there stay, unless their files changed.
    keeps_changed: they stay even then.
    apply_step: the step of the training whose checkpoint is applied; None for the last.
    exports: formats of other tools that finished masks are written in.
    """

    path: Path
    data: SegmentationDataModule
    inputs: Mapping[str, Path]
    identity: Mapping[str, Any]
    make_writers: Callable[[Sequence[str]], list[L.Callback]]
    also_scored: Sequence[str]
    grows: bool
    keeps_changed: bool
    apply_step: int | None
    exports: Exports


@dataclass(frozen=True)
class Stage:
    """A stage of a run: the module, how it learns (None: it is applied as it is), what it makes.

    checkpoint: what it learned, or will learn; `steps` is the folder of checkpoints on the way.
    reads: all folders that its data come from, those that it learned from also when it does not.
    config: the resolved settings, for people to read.
    adopted: the checkpoint of any data set that the module was built from.
    """

    name: str
    run: Run
    module: L.LightningModule
    checkpoint: Path
    steps: Path
    training: Training | None
    output: Output
    reads: Mapping[str, Path]
    config: Mapping[str, Any]
    adopted: Path | None = None

    @property
    def learns(self) -> bool:
        """Say whether there is anything to learn; hand-written prompts have nothing."""
        return learns(self.module)

    @property
    def best(self) -> Path:
        """Where the best checkpoint of the validations goes, beside the product."""
        return self.checkpoint.with_name(f"{self.checkpoint.stem}_best.ckpt")

    @cached_property
    def weights(self) -> FrozenWeights:
        """The digests of the frozen weights; they are large, and read once."""
        return digest_frozen(self.module)

    def describe_checkpoint(self) -> Product:
        """Describe what training makes: settings, frozen weights, inputs, versions of code."""
        assert self.training is not None
        settings = {
            **self.training.identity,
            "weights": self.weights.learning,
            "versions": list_versions(self.module, "learned_by"),
        }
        upstream = digest_inputs(self.training.inputs)
        return Product(self.checkpoint, settings, upstream)

    def describe_output(self, checkpoint: Path | None) -> Product:
        """Describe what applying the stage makes; `checkpoint` holds what it learned, if any."""
        settings = {
            **self.output.identity,
            "weights": self.weights.applying,
            "versions": list_versions(self.module, "made_by"),
        }
        upstream = digest_inputs(self.output.inputs)
        if checkpoint is not None:
            upstream |= digest_inputs({"checkpoint": checkpoint})
        return Product(self.output.path, settings, upstream)

    def digest_views(self, inputs: str) -> str:
        """Digest all that the features of the training views depend on; prompts do not count."""
        assert self.training is not None
        return fingerprint(
            {
                "view": self.training.view,
                "images": inputs,
                "weights": self.weights.learning,
                "precision": self.run.precision,
                "upstream": digest_inputs(self.training.inputs),
            }
        )


def digest_inputs(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return the fingerprints of the products that a stage reads.

    Raises:
        ProductMismatch: for one that no longer holds what it was finished with.
    """
    for path in inputs.values():
        require_unchanged(path)
    return {name: read_fingerprint(path) for name, path in inputs.items()}


def describe_inputs(data: SegmentationDataModule, splits: Splits) -> tuple[str, str]:
    """Name the splits in one word, and digest their images and labels in another."""
    names = name_splits(splits)
    records = data.read_records(names)
    known: dict[str, Any] = {**data.describe_inputs(names)}
    if any(is_turned_tiff(record.image_file) for record in records):
        known["versions"] = {"turned TIFFs": TURNED_TIFFS}
    return ",".join(names), fingerprint(known)


@contextmanager
def forget_failure(product: Product, split: str, made: Callable[[], bool]) -> Iterator[None]:
    """Take back the start of a split when an attempt ends with an error before it made anything.

    Other shards that go by the same record enter themselves again (`RecordKeeper`).
    """
    try:
        yield
    except BaseException:  # an interrupt, too
        if rank_zero_only.rank == 0:
            with wait_lock(product.record_path):
                if not made():
                    product.forget(split)
        raise


def start_product(
    product: Product,
    split: str,
    inputs: str,
    overwrite: bool,
    beside: Sequence[Path],
    editable: bool = False,
) -> None:
    """Open a product and a part of it, once for all processes, while the others wait.

    editable: people may change what it holds.
    """
    if rank_zero_only.rank == 0:
        with wait_lock(product.record_path):  # shards may start together
            product.open(overwrite, beside)
            if not editable:
                product.repair()
            product.start(split, inputs, beside)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
