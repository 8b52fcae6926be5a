"""Read the files of records into samples and batches; these objects travel to the loader's workers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch.utils.data import Dataset

from datamodules.file_checks import require_size
from datamodules.sample import Sample, collate_samples
from datamodules.sampler import BatchPlan, find_image, find_view, seed_augmentation, seed_view
from datamodules.transforms import IGNORED, View
from fmawsss.files.features import LABELS, SEEDS, FeatureStore
from fmawsss.files.images import read_image
from fmawsss.files.storage import read_cams, read_mask, read_superpixels
from fmawsss.records import Batch, ImageRecord
from fmawsss.resizing import Normaliser, Resize
from fmawsss.superpixels import Superpixels

Augment = Callable[[View, np.random.Generator], View]
CropLabels = Callable[
    [Bool[np.ndarray, "C"], UInt8[np.ndarray, "H W"] | None], Bool[np.ndarray, "C"]
]


@dataclass(frozen=True)
class TrainingBatches(Dataset[Batch]):
    """Augmented micro-batches by their number, counted from the start of the run; each is the same
    whenever read.

    With `views` an image has so many fixed views, otherwise every view is new.
    """

    records: Sequence[ImageRecord]
    classes: int
    plan: BatchPlan
    seed: int
    augment: Augment
    crop_labels: CropLabels
    normalise: Normaliser
    seeds: Path | None
    confidence: Path | None = None
    views: int | None = None

    def __getitem__(self, micro_batch: int) -> Batch:
        return collate_samples(
            [self.read_sample(position) for position in self.plan.list_positions(micro_batch)]
        )

    def read_sample(self, position: int) -> Sample:
        """Read and augment the image at a position of the endless order."""
        if self.views is not None:
            return self.read_view(find_view(position, len(self.records), self.views, self.seed))
        index = find_image(position, len(self.records), self.seed)
        return self._augment_image(index, seed_augmentation(position, self.seed))

    def read_view(self, view: int) -> Sample:
        """Read and augment the image of a fixed view."""
        return self._augment_image(view // self.views, seed_view(view, self.seed))

    def _augment_image(self, index: int, rng: np.random.Generator) -> Sample:
        record = self.records[index]
        image = read_image(record.image)
        masks = (
            []
            if self.seeds is None
            else [read_seed(self.seeds / f"{record.name}.png", image, self.classes)]
        )
        if self.confidence is not None:
            masks.append(read_confidence(self.confidence / f"{record.name}.png", image))
        view = self.augment(View(image, *masks), rng)

        labels = None
        if record.labels is not None:
            labels = torch.from_numpy(
                self.crop_labels(encode_labels(record.labels, self.classes), view.seed)
            )
        return Sample(
            name=record.name,
            image=to_tensor(self.normalise(view.image), view.padding),
            size=image.shape[:2],
            padding=None if view.padding is None else torch.from_numpy(view.padding),
            labels=labels,
            seed=to_mask(view.seed),
            confidence=to_mask(view.confidence),
        )


@dataclass(frozen=True)
class ViewBatches(Dataset[Batch]):
    """Fixed views in batches, each with its number, for an encoder to see once."""

    source: TrainingBatches
    batches: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        views = list(self.batches[index])
        return replace(
            collate_samples([self.source.read_view(view) for view in views]), views=views
        )


@dataclass(frozen=True)
class EncodedBatches(Dataset[Batch]):
    """The micro-batches of `source`, as the encoder left their views in a store; no image is read."""

    source: TrainingBatches
    store: FeatureStore

    def __getitem__(self, micro_batch: int) -> Batch:
        source, images = self.source, len(self.source.records)
        positions = source.plan.list_positions(micro_batch)
        views = [find_view(position, images, source.views, source.seed) for position in positions]
        encoded = self.store.read(views)
        return Batch(
            names=[source.records[view // source.views].name for view in views],
            images=None,
            sizes=[],
            labels=encoded.pop(LABELS, None),
            seeds=encoded.pop(SEEDS, None),
            views=views,
            encoded=encoded,
        )


@dataclass(frozen=True)
class WholeImageBatches(Dataset[Batch]):
    """Whole images, resized but not augmented, with what was asked for at their own size."""

    batches: Sequence[Sequence[ImageRecord]]
    classes: int
    resize: Resize
    normalise: Normaliser
    truths: bool
    superpixels: Path | None
    cams: Path | None
    originals: bool

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return collate_samples([self.read_sample(record) for record in self.batches[index]])

    def read_sample(self, record: ImageRecord) -> Sample:
        """Read one whole image."""
        image = read_image(record.image)
        truth = (
            read_truth(record.truth, image, self.classes)
            if self.truths and record.truth is not None
            else None
        )
        masks = (
            None
            if self.superpixels is None
            else read_masks(self.superpixels / f"{record.name}.npz", image)
        )
        labels = (
            None
            if record.labels is None
            else torch.from_numpy(encode_labels(record.labels, self.classes))
        )
        return Sample(
            name=record.name,
            image=to_tensor(self.normalise(self.resize(image)), None),
            size=image.shape[:2],
            labels=labels,
            truth=truth,
            superpixels=masks,
            cams=None if self.cams is None else read_cams(self.cams / f"{record.name}.npz"),
            original=image if self.originals else None,
        )


def encode_labels(labels: tuple[int, ...], classes: int) -> Bool[np.ndarray, "C"]:
    """Turn class indices into a multi-hot vector."""
    present = np.zeros(classes, bool)
    present[list(labels)] = True
    return present


def to_tensor(image: np.ndarray, padding: np.ndarray | None) -> torch.Tensor:
    """Put channels first; outside the picture the image is 0, which is the mean colour."""
    if padding is not None:
        image[padding] = 0
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def to_mask(mask: np.ndarray | None) -> torch.Tensor | None:
    """Turn a mask into a tensor, if there is one."""
    return None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))


def read_seed(path: Path, image: np.ndarray, classes: int) -> UInt8[np.ndarray, "H W"]:
    """Read the seed map of an image; raises ValueError when size or values do not fit."""
    return check_mask(read_mask(path), path, image.shape[:2], classes)


def read_confidence(path: Path, image: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    """Read how sure the seed map of an image is; raises ValueError when the size does not fit."""
    return check_mask(read_mask(path), path, image.shape[:2], classes=IGNORED)


def read_truth(path: Path, image: np.ndarray, classes: int) -> UInt8[torch.Tensor, "H W"]:
    """Read the ground-truth mask of an image; raises ValueError when size or values do not fit."""
    return torch.from_numpy(check_mask(read_mask(path), path, image.shape[:2], classes))


def read_masks(path: Path, image: np.ndarray) -> Superpixels:
    """Read the superpixels of an image; raises ValueError when they were made of another size."""
    superpixels = read_superpixels(path)
    if tuple(superpixels.size) != image.shape[:2]:
        raise ValueError(
            f"superpixels {path} are of size {tuple(superpixels.size)}, the image is "
            f"{image.shape[:2]}; "
            "delete the file and run `python infer.py task=superpixels`"
        )
    return superpixels


def find_start_context(method: str | None) -> BaseContext:
    """Return how loader processes start, by default from a server that has loaded what they need,
    where there is one.

    Forking the training process itself would copy locks that its threads hold.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context(
        method or ("forkserver" if "forkserver" in methods else "spawn")
    )
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["datamodules.base"])
    return context


def prepare_worker(worker: int) -> None:
    """Keep each worker of a loader to one thread."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def check_mask(
    mask: np.ndarray, path: Path, size: tuple[int, int], classes: int
) -> UInt8[np.ndarray, "H W"]:
    """Return the mask of an image; raises ValueError unless size (height, width) and values fit."""
    require_size(path, mask.shape, size)
    strange = mask[(mask > classes) & (mask != IGNORED)]
    if strange.size:
        raise ValueError(
            f"mask {path} holds the value {strange[0]}, expected 0 to {classes} or 255; "
            "check the class names (dataset.classes) against the mask"
        )
    return mask
