"""What every data set shares: splits, checks at the door, endless training batches, whole images
for prediction.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from torch.utils.data import DataLoader, Dataset

from datamodules.choosing import (
    Splits,
    check_records,
    check_truths,
    choose_shots,
    count_truths,
    digest_records,
    group_by_size,
    keep_labelled,
    name_splits,
    require_files,
    require_truths,
    spread_choice,
)
from datamodules.labels import LabelReader, Labels, LabelSource, keep_image_labels, require_reader
from datamodules.loading import (
    Augment,
    CropLabels,
    EncodedBatches,
    TrainingBatches,
    ViewBatches,
    WholeImageBatches,
    find_start_context,
    prepare_worker,
)
from datamodules.sampler import BatchPlan, EndlessMicroBatches
from fmawsss.files.features import FeatureStore
from fmawsss.files.texts import name_first
from fmawsss.records import Batch, ImageRecord
from fmawsss.resizing import Normaliser, Resize

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class SegmentationDataModule(L.LightningDataModule):
    """Images of named splits, read as training batches and as whole images. A data set overrides
    `read_split`.

    classes: foreground names as they stand in prompts, in the order of the mask values 1, 2, …
    names: short names of the same classes, for tables and files; None takes `classes`.
    labels: reads the image labels; unused unless `labelled`; None knows none.
    labelled: whether images need labels. Training then leaves images without any class out, and
        says so.
    train_split, val_split, predict_split: name, list of names, or names joined by commas.
    batch_size: images per optimiser step, over all processes and `micro_batches`.
    predict_batch_size: images per batch in validation and prediction; images of equal network size
        share a batch.
    workers: loader processes, 0 for none. `start_method` (fork, forkserver, spawn) is how they
        start; None takes the safest of the platform.
    seed: order and augmentation of training images.
    shots: train on this many images per class; None takes all.
    augment, crop_labels: the training view of an image, and which labels it keeps.
    views: train on this many fixed views of each image; None makes every view a new one.
    store: features of the fixed views; with it no training image is read.
    val_images: validate on this many images, spread evenly over the split; None takes all.
    resize, val_resize: network size of whole images in prediction and validation; None validates as
        it predicts.
    image_mean, image_std: normalisation of the network.
    seeds, confidence: folders of `<name>.png` for training; None reads none.
    superpixels, cams: folders of `<name>.npz` for prediction; None reads none.
    truths: prediction reads the ground-truth masks that exist. Validation always does, and needs
        them all.
    originals: prediction keeps the image as it is on disk.
    done: tells by name which images prediction leaves out.
    """

    classes: Sequence[str]
    labels: LabelReader | None
    batch_size: int
    micro_batches: int
    predict_batch_size: int
    workers: int
    seed: int
    resize: Resize
    image_mean: Sequence[float]
    image_std: Sequence[float]
    names: Sequence[str] | None = None
    train_split: Splits = None
    val_split: Splits = None
    predict_split: Splits = None
    labelled: bool = True
    shots: int | None = None
    augment: Augment | None = None
    crop_labels: CropLabels = keep_image_labels
    views: int | None = None
    store: FeatureStore | None = None
    val_resize: Resize | None = None
    val_images: int | None = None
    seeds: Path | str | None = None
    confidence: Path | str | None = None
    superpixels: Path | str | None = None
    cams: Path | str | None = None
    truths: bool = False
    originals: bool = False
    done: Callable[[str], bool] | None = None
    persistent_workers: bool = False
    start_method: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        require_reader(self.labels)
        self.allow_zero_length_dataloader_with_multiple_devices = (
            True  # few images left, many processes
        )
        self.class_names = tuple(self.names or self.classes)
        if len(self.class_names) != len(self.classes):
            raise ValueError(
                f"{len(self.classes)} classes and {len(self.class_names)} short names; "
                "dataset.classes and dataset.names need the same length"
            )
        if self.labelled and not self.classes:
            raise ValueError("the data set has no classes; set dataset.classes, or dataset/labels")
        self._normalise = Normaliser(self.image_mean, self.image_std)
        self._splits: dict[str, list[ImageRecord]] = {}
        self._training: list[ImageRecord] = []
        self.lost_labels: list[str] = []  # names without an image, in the labels read last

    @abstractmethod
    def read_split(self, split: str) -> list[ImageRecord]:
        """List the images of one split, with their labels if `labelled` and their truth if there is
        one.
        """

    def read_labels(
        self,
        images: Sequence[str],
        masks: Mapping[str, Path],
        annotations: Path | None,
        others: Iterable[str],
    ) -> dict[str, Labels]:
        """Read the labels of images as `labels` says, or none when they are not asked for.

        Labels may name `others` too, the images of other splits; whatever else they name is lost.
        """
        if not self.labelled or self.labels is None:
            return {}
        prompts = {name: index for index, name in enumerate(self.classes)}
        short = {name: index for index, name in enumerate(self.class_names)}
        found = self.labels(images, LabelSource({**short, **prompts}, masks, annotations))
        self.lost_labels = sorted((found.keys() - set(images)).difference(others))
        return found

    def read_records(self, splits: Splits) -> list[ImageRecord]:
        """List the images of one or several splits, each image once, after checking that the files
        are there.
        """
        found: dict[str, ImageRecord] = {}
        for split in name_splits(splits):
            if split not in self._splits:
                self._splits[split] = check_records(self.read_split(split), split, self.labelled)
            found.update(
                {record.name: record for record in self._splits[split] if record.name not in found}
            )
        return list(found.values())

    def describe_inputs(self) -> dict[str, dict[str, int | str]]:
        """Describe the splits read so far: number of images, and a digest of names and labels."""
        return {split: digest_records(records) for split, records in self._splits.items()}

    def setup(self, stage: str) -> None:
        """Read the splits of a Lightning stage and check, before anything runs, what they need."""
        if stage == "fit" and not self._training:
            self._training = self.choose_training_images()
        if stage in ("fit", "validate") and self.val_split is not None:
            require_truths(self.read_records(self.val_split), self.val_split)
        if stage == "predict":
            records = self.list_remaining()
            check_truths(records if self.truths else [])
            if self.superpixels is not None:
                remedy = "run `python infer.py task=superpixels` for this data set and split"
                require_files(records, Path(self.superpixels), ".npz", "superpixels", remedy)
            if self.cams is not None:
                require_files(
                    records, Path(self.cams), ".npz", "CAMs", "write them with callbacks=cams"
                )

    def choose_training_images(self) -> list[ImageRecord]:
        """List the images to train on: those with a label, or some of them, each with its seeds."""
        if self.train_split is None:
            raise ValueError("training needs `train_split`; set split=…")
        records = self.read_records(self.train_split)
        if lost := self.lost_labels:
            log.warning("labels of %d images that are not there: %s", len(lost), name_first(lost))
        if self.labelled:
            records = keep_labelled(records)
        if self.shots is not None:
            records = choose_shots(records, self.shots, self.class_names, self.seed)
        if self.seeds is not None:
            remedy = "run the stage that makes them (`python train.py task=cls` or `task=seg`), or name another folder"
            require_files(records, Path(self.seeds), ".png", "seeds", remedy)
        if self.confidence is not None:
            remedy = "write them with `python infer.py task=seg callbacks=seed_confidence`, or choose targets=hard"
            require_files(records, Path(self.confidence), ".png", "confidences", remedy)
        return records

    def list_parts(self, split: str, also: Sequence[str]) -> dict[str, list[str]]:
        """List the image names of the split to apply a stage to, and of other splits that it
        contains.
        """
        whole = [record.name for record in self.read_records(self.predict_split)]
        parts = {part: [record.name for record in self.read_records(part)] for part in also}
        return {
            split: whole,
            **{part: names for part, names in parts.items() if set(names) <= set(whole)},
        }

    def list_truths(self) -> dict[str, Path]:
        """List the ground-truth masks that prediction reads, by image name."""
        records = self.read_records(self.predict_split) if self.truths else []
        return {record.name: record.truth for record in records if record.truth is not None}

    def list_remaining(self) -> list[ImageRecord]:
        """List the images of `predict_split` that are not done."""
        records = self.read_records(self.predict_split)
        return [record for record in records if self.done is None or not self.done(record.name)]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load micro-batches without end, from the optimiser step that the trainer stands at."""
        views = self.describe_views(*self._find_place())
        batches = views if self.store is None else EncodedBatches(views, self.store)
        first = self.trainer.global_step if self.trainer else 0
        return self._load(batches, EndlessMicroBatches(first, self.micro_batches))

    def describe_views(self, rank: int = 0, world_size: int = 1) -> TrainingBatches:
        """Describe what training sees of the images."""
        if self.augment is None:
            raise ValueError("training needs `augment`; choose one of the group, e.g. augment=none")
        return TrainingBatches(
            records=self._training,
            classes=len(self.classes),
            plan=BatchPlan(self.batch_size, self.micro_batches, rank, world_size),
            seed=self.seed,
            augment=self.augment,
            crop_labels=self.crop_labels,
            normalise=self._normalise,
            seeds=None if self.seeds is None else Path(self.seeds),
            confidence=None if self.confidence is None else Path(self.confidence),
            views=self.views,
        )

    def view_dataloader(
        self, views: Sequence[int], rank: int, world_size: int
    ) -> DataLoader[Batch]:
        """Load the fixed views of these numbers, once, for an encoder to see.

        Batches are always the same; those with such a view are loaded whole, so that what a view
        gives never depends on which others were missing.
        """
        source = self.describe_views()
        numbers = range(len(source.records) * source.views)
        firsts = sorted({view - view % self.batch_size for view in views})
        batches = [numbers[first : first + self.batch_size] for first in firsts]
        return self._load(ViewBatches(source, batches[rank::world_size]), None)

    def val_dataloader(self) -> DataLoader[Batch] | list:
        """Load the images of `val_split` with their truths; nothing without such a split."""
        if self.val_split is None:
            return []
        records = spread_choice(self.read_records(self.val_split), self.val_images)
        return self._load_whole(records, self.val_resize or self.resize, truths=True)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load the images of `predict_split` that are not done yet."""
        records = self.list_remaining()
        count_truths(records if self.truths else [])
        superpixels, cams = (
            None if folder is None else Path(folder) for folder in (self.superpixels, self.cams)
        )
        return self._load_whole(
            records, self.resize, self.truths, superpixels, cams, self.originals
        )

    def _load_whole(
        self,
        records: list[ImageRecord],
        resize: Resize,
        truths: bool,
        superpixels: Path | None = None,
        cams: Path | None = None,
        originals: bool = False,
    ) -> DataLoader[Batch]:
        rank, world_size = self._find_place()
        size = min(
            self.predict_batch_size, max(len(records) // world_size, 1)
        )  # no process goes without
        batches = WholeImageBatches(
            batches=group_by_size(records, resize, size)[rank::world_size],
            classes=len(self.classes),
            resize=resize,
            normalise=self._normalise,
            truths=truths,
            superpixels=superpixels,
            cams=cams,
            originals=originals,
        )
        return self._load(batches, None)

    def _load(
        self, batches: Dataset[Batch], sampler: EndlessMicroBatches | None
    ) -> DataLoader[Batch]:
        """Wrap batches in a loader; each item is a whole batch already."""
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            worker_init_fn=prepare_worker,
            pin_memory=on_gpu,
            persistent_workers=self.persistent_workers and self.workers > 0,
            multiprocessing_context=find_start_context(self.start_method) if self.workers else None,
        )

    def _find_place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        if self.trainer is None:
            return 0, 1
        if (
            self.trainer.world_size > 1
            and self.trainer._accelerator_connector.use_distributed_sampler
        ):
            raise ValueError(
                "images are already dealt to the processes; set "
                "trainer.use_distributed_sampler=false"
            )
        return self.trainer.global_rank, self.trainer.world_size
