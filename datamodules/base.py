"""What every data set shares: splits, checks before a run, training batches, whole images."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning as L
from torch.utils.data import DataLoader

from datamodules.batches import TrainingBatches, ViewBatches, WholeImageBatches
from datamodules.choosing import (
    Records,
    Splits,
    check_all_truths,
    check_records,
    check_truths,
    choose_shots,
    digest_records,
    group_by_size,
    keep_labelled,
    name_splits,
    report_missing_truths,
    spread_choice,
)
from datamodules.given_cams import find_unlabelled, report_other_classes
from datamodules.images import list_lost
from datamodules.label_corrections import correct_labels
from datamodules.labels import NO_CLASSES, LabelReader, Labels, LabelSource, require_reader
from datamodules.loading import Loading, find_place, make_loader
from datamodules.sampler import BatchPlan, EndlessMicroBatches
from datamodules.shown import report_unshown
from datamodules.view_checks import check_training_view, check_view
from datamodules.views import TrainingView, WholeView, require_view
from fmawsss.files.listing import current
from fmawsss.files.texts import check_class_names, compose, name_first, require_names
from fmawsss.records import Batch, ImageRecord

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class SegmentationDataModule(L.LightningDataModule):
    """Read images of named splits; a data set overrides `read_split`.

    Where images and labels come from:
    classes: foreground classes, in the order of the mask values 1, 2, …, for tables and files.
    prompt_names: what stands in prompts for each of them; None takes `classes`.
    phrases: what text-prompted models are asked in their place, of some classes (task=text).
    labels: reads the image labels; unused unless `labelled`; None knows none.
    label_corrections: a table of labels that a person has corrected; None corrects none.
    labelled: whether images need labels. Training leaves images without any out, and says so.
    splits: the splits that the data set has, by what they are for. images: so many of each.
    background: words for what is no class. longest: the longer side of copies of larger images.

    What is asked of them, None where a purpose is not needed:
    training: the images to learn from, and how a view of one is made.
    validation, whole: the whole images to validate on, and to apply a stage to.
    loading: how many processes load batches. only: names of images, the others are left out.
    """

    classes: Sequence[str]
    labels: LabelReader | None
    labelled: bool
    prompt_names: Sequence[str] | None = None
    phrases: Mapping[str, Sequence[str]] | None = None
    label_corrections: Path | str | None = None
    splits: Mapping[str, Splits] = field(default_factory=dict)
    background: Sequence[str] = ()
    longest: int | None = None
    images: int | None = None
    training: TrainingView | None = None
    validation: WholeView | None = None
    whole: WholeView | None = None
    loading: Loading = field(default_factory=Loading)
    only: Container[str] | None = None

    def __post_init__(self) -> None:
        super().__init__()
        require_reader(self.labels)
        self.allow_zero_length_dataloader_with_multiple_devices = True

        # names of the classes
        check_class_names(self.classes)
        self.classes = tuple(map(compose, self.classes))
        self.prompt_names = tuple(require_names(self.prompt_names, "prompt_names") or self.classes)
        self.background = tuple(require_names(self.background, "background") or ())
        if len(self.prompt_names) != len(self.classes):
            raise ValueError(
                f"{len(self.classes)} classes and {len(self.prompt_names)} prompt names; "
                "dataset.classes and dataset.prompt_names need the same length"
            )
        if self.labelled and not self.classes:
            raise ValueError(NO_CLASSES)

        # what was read so far
        self.lost_labels: list[str] = []  # names without an image, in the labels read last
        self._splits: dict[str, Records] = {}
        self._training: Records = []
        self._ready: set[str] = set()

    @abstractmethod
    def read_split(self, split: str) -> Records:
        """List the images of one split, with their labels if `labelled`, and their truth if any."""

    def find_faults(self, split: str) -> list[str]:
        """Find what keeps the masks of a split from being made, where the data set makes them."""
        return []

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
        names = {name: index for index, name in enumerate(self.classes)}
        words = [compose(name) for name in self.prompt_names]
        aliases = {word: words.index(word) for word in words if words.count(word) == 1}
        known = {**aliases, **names}
        found = self.labels(images, LabelSource(known, masks, annotations))
        self.lost_labels = list_lost(found, images, others)
        if self.label_corrections is None:
            return found
        asked = {name: found[name] for name in images if name in found}
        return correct_labels(asked, Path(self.label_corrections), others, known)

    def _read_once(self, split: str) -> Records:
        """Read a split, unless a data module of this run did; they differ in these alone."""
        given = (type(self), self.labelled, self.classes, self.prompt_names, self.images, split)

        def read() -> tuple[Records, list[str]]:
            records = spread_choice(self.read_split(split), self.images)
            check_records(records, split, self.labelled)
            return records, self.lost_labels

        records, self.lost_labels = current().read_once(given, read)
        return records

    def read_records(self, splits: Splits) -> Records:
        """List the images of one or several splits, each image once, after checking their files."""
        found: dict[str, ImageRecord] = {}
        for split in name_splits(splits):
            if split not in self._splits:
                self._splits[split] = self._read_once(split)
            for record in self._splits[split]:
                if self.only is None or record.name in self.only:
                    found.setdefault(record.name, record)
        return list(found.values())

    def describe_inputs(self, splits: Splits = None) -> dict[str, dict[str, int | str]]:
        """Describe splits, all that were read for None: images, a digest of names and labels."""
        return {s: digest_records(self._splits[s]) for s in name_splits(splits) or self._splits}

    def list_parts(self, split: str, also: Sequence[str]) -> dict[str, list[str]]:
        """List the image names of `whole`, under the name `split`, and of other splits within."""
        view = require_view(self.whole, "whole")
        parts = {split: [record.name for record in self.read_records(view.split)]}
        for part in also:
            names = [record.name for record in self.read_records(part)]
            if set(names) <= set(parts[split]):
                parts[part] = names
        return parts

    def list_truths(self) -> dict[str, Path]:
        """List the ground-truth masks that `whole` reads, by image name."""
        view = require_view(self.whole, "whole")
        records = self.read_records(view.split) if view.truths else []
        return {r.name: r.truth for r in records if r.truth is not None}

    def setup(self, stage: str) -> None:
        """Read the splits for `fit`, `validate` or `predict`, and check what they need, once."""
        if stage not in self._ready:
            self.read_images(stage)
            self.require_products(stage)
            self._ready.add(stage)

    def read_images(self, stage: str) -> None:
        """Read the splits for a purpose, and check images, labels and truths."""
        if stage == "fit" and not self._training:
            self._training = self.choose_training_images()
        if stage in ("fit", "validate") and self.validation is not None:
            records = self.read_records(self.validation.split)
            check_all_truths(records, self.validation.split)
            report_unshown(records)
        if stage == "predict":
            view = require_view(self.whole, "whole")
            records = self.read_records(view.split)
            check_truths(records if view.truths else [])
            report_unshown(records if view.truths else [])

    def require_products(self, stage: str) -> None:
        """Check that what earlier stages made of the images of a purpose is there."""
        if stage == "fit":
            view = require_view(self.training, "training")
            check_training_view(self._training, view, self.classes)
        if stage in ("fit", "validate") and self.validation is not None:
            check_view(self.read_records(self.validation.split), self.validation)
        if stage == "predict":
            view = require_view(self.whole, "whole")
            view = self.whole = replace(view, bare=find_unlabelled(self, view))
            check_view(self.read_records(view.split), view)
            if view.cams is not None:
                report_other_classes(self, view.split, Path(view.cams), view.bare)

    def choose_training_images(self) -> Records:
        """List the images to learn from, without those that show no class."""
        view = require_view(self.training, "training")
        records = self.read_records(view.split)
        if lost := self.lost_labels:
            count = len(lost)
            logger.warning("labels of %d images that are not there: %s", count, name_first(lost))

        if self.labelled:
            records = keep_labelled(records)
        if view.shots is not None:
            records = choose_shots(records, view.shots, self.classes, view.seed)
        return records

    def describe_views(self, rank: int = 0, world_size: int = 1) -> TrainingBatches:
        """Describe what training sees of the images, in one of several processes."""
        view = require_view(self.training, "training")
        plan = BatchPlan(view.batch_size, view.micro_batches, rank, world_size)
        return TrainingBatches(self._training, len(self.classes), plan, view)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load micro-batches without end, from the optimiser step that the trainer stands at."""
        place = find_place(self.trainer)
        views = self.describe_views(place.rank, place.world_size)
        order = EndlessMicroBatches(place.step, views.plan.micro_batches)
        return make_loader(views, self.loading, place.pin, order)

    def val_dataloader(self) -> DataLoader[Batch] | list:
        """Load the images to validate on, with their truths; nothing without such images."""
        place = find_place(self.trainer)
        return self.validation_loader(place.rank, place.world_size, place.pin)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load all images of `whole`."""
        place = find_place(self.trainer)
        view = require_view(self.whole, "whole")
        records = spread_choice(self.read_records(view.split), view.images)
        return self.whole_loader(records, place.rank, place.world_size, place.pin)

    def view_loader(
        self, views: Sequence[int], rank: int = 0, world_size: int = 1, pin: bool = False
    ) -> DataLoader[Batch]:
        """Load the fixed views of these numbers, once, for an encoder to see.

        Batches are always the same; those with such a view are loaded whole, so that what a view
        gives never depends on which others were missing.
        """
        source = self.describe_views()
        size = source.plan.batch_size
        numbers = range(len(source.records) * source.views)

        # the batches that hold one of these views
        firsts = sorted({view - view % size for view in views})
        batches = [numbers[first : first + size] for first in firsts]
        return make_loader(ViewBatches(source, batches[rank::world_size]), self.loading, pin)

    def validation_loader(
        self, rank: int = 0, world_size: int = 1, pin: bool = False
    ) -> DataLoader[Batch] | list:
        """Load this process's share of the images to validate on; nothing without such images."""
        view = self.validation
        if view is None or view.split is None:
            return []
        records = spread_choice(self.read_records(view.split), view.images)
        return self._load_whole(replace(view, truths=True), records, rank, world_size, pin)

    def whole_loader(
        self, records: Sequence[ImageRecord], rank: int = 0, world_size: int = 1, pin: bool = False
    ) -> DataLoader[Batch]:
        """Load this process's share of some images as `whole` says, each image once."""
        view = require_view(self.whole, "whole")
        report_missing_truths(records if view.truths else [])
        return self._load_whole(view, records, rank, world_size, pin)

    def _load_whole(
        self, view: WholeView, records: Sequence[ImageRecord], rank: int, world_size: int, pin: bool
    ) -> DataLoader[Batch]:
        images = len(spread_choice(self.read_records(view.split), view.images))  # done or not
        size = min(view.batch_size, max(images // world_size, 1))  # no process goes without
        shares = group_by_size(records, view.resize, size, view.longest)[rank::world_size]
        return make_loader(WholeImageBatches(shares, len(self.classes), view), self.loading, pin)
