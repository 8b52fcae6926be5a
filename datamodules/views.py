"""What a stage asks of its images: training views, whole images, and who loads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

from datamodules.choosing import Splits
from fmawsss.resizing import Normaliser, Picture, Resize

Mask = UInt8[np.ndarray, "H W"]
MOVING = ("seed", "confidence", "clearance", "trusted")  # masks of a view


@dataclass(frozen=True)
class View:
    """An image under augmentation with the masks that move with it, and what lies outside it."""

    image: Picture
    seed: Mask | None = None
    confidence: Mask | None = None  # never without a seed
    clearance: Mask | None = None  # never without a confidence
    trusted: Mask | None = None  # 1 where a person has corrected the seed, 0 elsewhere
    padding: Bool[np.ndarray, "H W"] | None = None

    def masks(self) -> list[Mask]:
        """List the masks that move with the image, as far as there are any."""
        moving = (getattr(self, name) for name in MOVING)
        return [mask for mask in moving if mask is not None]

    def carry(
        self,
        image: Picture,
        masks: Sequence[Mask],
        padding: Bool[np.ndarray, "H W"] | None = None,
    ) -> View:
        """Return the view with an image and masks that were moved, in the order of `masks`."""
        names = [name for name in MOVING if getattr(self, name) is not None]
        return View(image, **dict(zip(names, masks, strict=True)), padding=padding)


Augment = Callable[[View, np.random.Generator], View]
CropLabels = Callable[
    [Bool[np.ndarray, "C"], UInt8[np.ndarray, "H W"] | None], Bool[np.ndarray, "C"]
]


@dataclass(frozen=True, kw_only=True)
class TrainingView:
    """Say which images to learn from, and how a training view of one is made.

    split: name of a split, list of names, or names joined by commas.
    batch_size: images per optimiser step, over all processes and `micro_batches`.
    seed: of the order of images, of their augmentation and of the choice of shots.
    augment, crop_labels: the view of an image, and which of the image's labels it keeps.
    shots: learn from this many images per class; None takes all.
    views: learn from this many fixed views of each image; None makes every view a new one.
    seeds, confidence: folders of `<name>.png`; None reads none.
    superpixels: a folder of `<name>.npz`, for how far pixels are from outlines, beside confidence;
        None reads none.
    corrected: a folder of trusted masks, of some images, that are laid over the seeds.
    longest: views are made of a copy with this longer side where an image is larger.
    """

    split: Splits
    batch_size: int
    micro_batches: int
    seed: int
    normalise: Normaliser
    augment: Augment
    crop_labels: CropLabels
    shots: int | None = None
    views: int | None = None
    seeds: Path | str | None = None
    confidence: Path | str | None = None
    superpixels: Path | str | None = None
    corrected: Path | str | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.split is None:
            raise ValueError("training needs `split`; set split=…")
        if self.augment is None:
            raise ValueError("training needs `augment`; choose one of the group, e.g. augment=none")


@dataclass(frozen=True, kw_only=True)
class WholeView:
    """Say which images to look at as a whole, and what comes with them.

    split: name of a split, list of names, or names joined by commas; None looks at nothing.
    resize, normalise: the size and the values that the network sees.
    batch_size: images per batch; only images of equal network size share one.
    truths: read the ground-truth masks that exist. Validation always does, and needs them all.
    originals: keep the image before `resize`.
    superpixels, cams: folders of `<name>.npz`, CAMs also `<name>.npy`; None reads none.
    bare: names of images that show no class, and have no CAMs.
    cams_of: CAMs must come from stages with these recipes, if their files say; None asks none.
    regions, keys, averaged: folders of `<name>.npz` that a region memory reads; they must be there.
    corrected: a folder of trusted masks, of some images, that it reads.
    images: look at this many images, spread evenly over the split; None takes all.
    longest: of a larger image a copy with this longer side stands for it, superpixels as well; only
        its truth stays as it is.
    """

    split: Splits
    resize: Resize
    normalise: Normaliser
    batch_size: int
    truths: bool = False
    originals: bool = False
    superpixels: Path | str | None = None
    cams: Path | str | None = None
    cams_of: Sequence[str] | None = None
    bare: Collection[str] = ()
    regions: Path | str | None = None
    keys: Path | str | None = None
    averaged: Path | str | None = None
    corrected: Path | str | None = None
    images: int | None = None
    longest: int | None = None


Asked = TypeVar("Asked", TrainingView, WholeView)


def require_view(view: Asked | None, purpose: str) -> Asked:
    """Return what a data module was built to show; raises ValueError when that was left out."""
    if view is None:
        raise ValueError(f"the data module was built without `{purpose}`: give it one")
    return view
