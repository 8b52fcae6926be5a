"""Read the files of records into batches, by number; these objects travel to loader processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch.utils.data import Dataset

from datamodules.choosing import require_fitting
from datamodules.file_checks import check_mask_size
from datamodules.given_cams import NO_CAMS, find_cams, read_fitting_cams
from datamodules.sample import Sample, collate_samples
from datamodules.sampler import BatchPlan, find_image, find_view, seed_augmentation, seed_view
from datamodules.views import TrainingView, View, WholeView
from fmawsss.files.features import LABELS, SEEDS, FeatureStore
from fmawsss.files.images import read_image, read_shrunk, read_size
from fmawsss.files.png import read_mask
from fmawsss.files.storage import read_superpixels
from fmawsss.metrics import IGNORE
from fmawsss.networks.outlines import measure_clearance
from fmawsss.records import Batch, ImageRecord
from fmawsss.resizing import Size, fit_longest, resize_mask
from fmawsss.sam.partitions import resize_superpixels
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class TrainingBatches(Dataset[Batch]):
    """Augmented micro-batches by their number, counted from the start of the run.

    A micro-batch is the same whenever it is read. With `view.views` an image has so many fixed
    views, otherwise every view is new.
    """

    records: Sequence[ImageRecord]
    classes: int
    plan: BatchPlan
    view: TrainingView

    @property
    def views(self) -> int | None:
        """The number of fixed views of an image."""
        return self.view.views

    def find_size(self) -> tuple[int, int]:
        """Find the height and width of a view, from a blank image of the first one's size."""
        size = read_size(self.records[0].image)
        if self.view.longest is not None:
            size = fit_longest(size, self.view.longest)
        blank = View(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8))
        height, width = self.view.augment(blank, np.random.default_rng(0)).image.shape[:2]
        return height, width

    def __getitem__(self, micro_batch: int) -> Batch:
        positions = self.plan.list_positions(micro_batch)
        return collate_samples([self.read_sample(position) for position in positions])

    def find_view(self, position: int) -> int:
        """Return the fixed view at a position of the endless order."""
        return find_view(position, len(self.records), self.view.views, self.view.seed)

    def read_sample(self, position: int) -> Sample:
        """Read and augment the image at a position of the endless order."""
        if self.view.views is not None:
            return self.read_view(self.find_view(position))
        index = find_image(position, len(self.records), self.view.seed)
        return self._augment_image(index, seed_augmentation(position, self.view.seed))

    def read_view(self, view: int) -> Sample:
        """Read and augment the image of a fixed view."""
        return self._augment_image(view // self.view.views, seed_view(view, self.view.seed))

    def _augment_image(self, index: int, rng: np.random.Generator) -> Sample:
        # the image, and the masks that move with it
        record = self.records[index]
        image, on_disk = read_copy(record.image, self.view.longest)
        masks = self._read_masks(record.name, on_disk)
        fitting = {kind: resize_mask(mask, image.shape[:2]) for kind, mask in masks.items()}
        if self.view.superpixels is not None:
            path = Path(self.view.superpixels) / f"{record.name}.npz"
            superpixels = read_matching_superpixels(path, image.shape[:2], on_disk)
            fitting["clearance"] = measure_clearance(superpixels)
        view = self.view.augment(View(image, **fitting), rng)

        # the labels that are left in the view
        labels = None
        if record.labels is not None:
            present = encode_labels(record.labels, self.classes)
            labels = torch.from_numpy(self.view.crop_labels(present, view.seed))

        return Sample(
            name=record.name,
            image=to_tensor(self.view.normalise(view.image), view.padding),
            size=image.shape[:2],
            padding=None if view.padding is None else torch.from_numpy(view.padding),
            labels=labels,
            seed=to_mask(view.seed),
            confidence=to_mask(view.confidence),
            clearance=to_mask(view.clearance),
            trusted=None if view.trusted is None else to_mask(view.trusted) == 1,
        )

    def _read_masks(self, name: str, size: Size) -> dict[str, UInt8[np.ndarray, "H W"]]:
        """Read the seed of an image and what goes with it, as far as they are asked for."""
        view, masks = self.view, {}
        if view.seeds is not None:
            masks["seed"] = read_seed(Path(view.seeds) / f"{name}.png", size, self.classes)
        if view.confidence is not None:
            masks["confidence"] = read_seed_confidence(Path(view.confidence) / f"{name}.png", size)
        if view.corrected is not None and "seed" in masks:
            path = Path(view.corrected) / f"{name}.png"
            masks["seed"], masks["trusted"] = lay_corrected(masks["seed"], path, self.classes)
        return masks


@dataclass(frozen=True)
class ViewBatches(Dataset[Batch]):
    """Fixed views in batches, each with its number, for an encoder to see once."""

    source: TrainingBatches
    batches: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        views = list(self.batches[index])
        batch = collate_samples([self.source.read_view(view) for view in views])
        return replace(batch, views=views)


@dataclass(frozen=True)
class EncodedBatches(Dataset[Batch]):
    """The micro-batches of `source`, as an encoder left them in a store; no image is read."""

    source: TrainingBatches
    store: FeatureStore

    def __getitem__(self, micro_batch: int) -> Batch:
        # which views these are
        source = self.source
        positions = source.plan.list_positions(micro_batch)
        views = [source.find_view(position) for position in positions]

        # what was kept of them
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
    view: WholeView

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return collate_samples([self.read_sample(record) for record in self.batches[index]])

    def read_sample(self, record: ImageRecord) -> Sample:
        """Read one whole image."""
        view = self.view
        image, on_disk = read_copy(record.image, view.longest)

        # what is known of the image, as far as it is asked for
        labels = truth = superpixels = cams = None
        if record.labels is not None:
            labels = torch.from_numpy(encode_labels(record.labels, self.classes))
        if view.truths and record.truth is not None:
            truth = read_truth(record.truth, on_disk, self.classes)
        if view.superpixels is not None:
            superpixels = read_matching_superpixels(
                Path(view.superpixels) / f"{record.name}.npz", image.shape[:2], on_disk
            )
        if view.cams is not None:
            cams = NO_CAMS
            if record.name not in view.bare:
                cams = read_fitting_cams(find_cams(Path(view.cams), record.name), view.cams_of)

        return Sample(
            name=record.name,
            image=to_tensor(view.normalise(view.resize(image)), None),
            size=image.shape[:2],
            on_disk=on_disk,
            labels=labels,
            truth=truth,
            superpixels=superpixels,
            cams=cams,
            original=image if view.originals else None,
        )


def read_copy(path: Path, longest: int | None) -> tuple[UInt8[np.ndarray, "H W 3"], Size]:
    """Read an image, or a copy of a larger one, and the height and width that it has on disk."""
    if longest is not None:
        return read_shrunk(path, longest)
    image = read_image(path)
    return image, image.shape[:2]


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


def read_seed(path: Path, size: Size, classes: int) -> UInt8[np.ndarray, "H W"]:
    """Read the seed map of an image; raises ValueError when size or values do not fit."""
    return check_mask(read_mask(path), path, size, classes)


def lay_corrected(
    seed: UInt8[np.ndarray, "H W"], path: Path, classes: int
) -> tuple[UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    """Lay what a person has corrected over a seed, where the file is there; mark it with 1."""
    if not path.is_file():
        return seed, np.zeros_like(seed)
    mask = read_seed(path, seed.shape, classes)
    known = mask != IGNORE
    return np.where(known, mask, seed), known.astype(np.uint8)


def read_seed_confidence(path: Path, size: Size) -> UInt8[np.ndarray, "H W"]:
    """Read how sure the seed map of an image is; raises ValueError when the size does not fit."""
    return check_mask(read_mask(path), path, size, classes=IGNORE)


def read_truth(path: Path, size: Size, classes: int) -> UInt8[torch.Tensor, "H W"]:
    """Read the ground-truth mask of an image; raises ValueError when size or values do not fit."""
    return torch.from_numpy(check_mask(read_mask(path), path, size, classes))


def read_matching_superpixels(path: Path, size: Size, on_disk: Size) -> Superpixels:
    """Read the superpixels of an image at a size; those of the whole image are resized.

    Raises ValueError when they were made of another image.
    """
    superpixels = read_superpixels(path)
    require_fitting(superpixels, path, size, on_disk)
    return resize_superpixels(superpixels, size)


def check_mask(
    mask: np.ndarray, path: Path, size: tuple[int, int], classes: int
) -> UInt8[np.ndarray, "H W"]:
    """Return the mask of an image; raises ValueError unless size (height, width) and values fit."""
    check_mask_size(path, mask.shape, size)
    strange = mask[(mask > classes) & (mask != IGNORE)]
    if strange.size:
        raise ValueError(
            f"mask {path} holds the value {strange[0]}, expected 0 to {classes} or 255; "
            "check the class names (dataset.classes) against the mask"
        )
    return mask
