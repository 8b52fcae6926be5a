"""A trained network in three lines: `Segmenter.from_checkpoint(path).predict(images)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import nn

from fmawsss.files.hub import find_model
from fmawsss.files.images import convert_to_rgb, read_image
from fmawsss.networks.checkpoints import (
    NetworkCheckpoint,
    build_network,
    build_resize,
    read_checkpoint,
)
from fmawsss.networks.inference import SINGLE_SCALE, Answer, Inference, SlidingWindows
from fmawsss.networks.model_files import push_model, write_model
from fmawsss.resizing import KeepSize, Normaliser, Picture, Resize
from fmawsss.viz import choose_colours, overlay_mask

Source: TypeAlias = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Segmentation:
    """The mask of one image at its own size, and what it means.

    `mask` indexes `classes` and `palette`, the background first; `confidence` is the probability of
    each pixel's class.
    """

    mask: UInt8[np.ndarray, "H W"]
    confidence: Float32[np.ndarray, "H W"]
    classes: tuple[str, ...]
    palette: UInt8[np.ndarray, "R 3"]

    @cached_property
    def areas(self) -> dict[str, int]:
        """Number of pixels of each class that occurs."""
        return count_pixels(self.mask, self.classes)

    def overlay(self, image: Picture) -> Picture:
        """Lay the mask over its image."""
        colours = choose_colours(len(self.classes) - 1)
        return overlay_mask(image, self.mask, colours, alpha=0.5)


@dataclass(frozen=True)
class Segmenter:
    """A trained network, with the way it wants to see images.

    classes: short names, the background first. palette: their colours.
    resize, normalise: turn an image into what the network sees.
    inference: how its answers become masks, any of `fmawsss.networks.inference`.
    checkpoint: what it was read from, for `save` and `push_to_hub`.
    """

    network: nn.Module
    classes: tuple[str, ...]
    palette: UInt8[np.ndarray, "R 3"]
    resize: Resize
    normalise: Normaliser
    inference: Inference
    checkpoint: NetworkCheckpoint | None = None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        inference: Inference = SINGLE_SCALE,
        resize: Resize | None = None,
        build: Callable[..., nn.Module] | None = None,
    ) -> Segmenter:
        """Read a `network.ckpt`; it holds all that is needed.

        resize: replaces the checkpoint's own rule.
        build: builds the network for a number of classes, `build(classes=21)`; needed for one that
            is not on the list of `fmawsss.networks.builders`.
        """
        # The network and its view of images may be given, the rest is in the file
        checkpoint = read_checkpoint(path)
        rule = build_resize(checkpoint, resize)
        network = build_network(checkpoint, build)
        return cls(
            network=network.to(device).eval().requires_grad_(False),
            classes=("background", *checkpoint.classes),
            palette=checkpoint.palette,
            resize=rule,
            normalise=checkpoint.normalise,
            inference=inference,
            checkpoint=checkpoint,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, **options: Any
    ) -> Segmenter:
        """Read a model that was saved: from its folder, or from a repository on Hugging Face's hub.

        revision: of the repository. options: those of `from_checkpoint`.

        Raises:
            FileNotFoundError: where there is neither file nor network.
        """
        return cls.from_checkpoint(find_model(name, revision), **options)

    def save(self, folder: str | Path) -> Path:
        """Save the model as one safetensors file with a card, for `from_pretrained`.

        Raises:
            ValueError: for a segmenter that was not read from a checkpoint.
        """
        return write_model(self._require_checkpoint(), Path(folder))

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Save the model, and upload it to a repository `NAME/REPOSITORY` on Hugging Face's hub.

        Raises:
            ValueError: for a segmenter that was not read from a checkpoint.
        """
        with TemporaryDirectory() as folder:
            return push_model(self._require_checkpoint(), repository, Path(folder), private)

    def _require_checkpoint(self) -> NetworkCheckpoint:
        if self.checkpoint is None:
            raise ValueError(
                "the segmenter was put together by hand: save the checkpoint that its network was "
                "learned in"
            )
        return self.checkpoint

    def sliding(self, window: int = 512, stride: int = 384, batch: int = 4) -> Segmenter:
        """Return a segmenter that looks at images of any size through overlapping windows.

        window, stride: side of a window and the way to the next one, in pixels.
        batch: windows at once.
        """
        windows = SlidingWindows(SINGLE_SCALE, window, stride, batch)
        return replace(self, inference=windows, resize=KeepSize())

    def predict(self, images: Iterable[Source], batch_size: int = 1) -> list[Segmentation]:
        """Segment images, and hold what is found of all of them; `iter_predict` does not."""
        return list(self.iter_predict(images, batch_size))

    def iter_predict(self, images: Iterable[Source], batch_size: int = 1) -> Iterator[Segmentation]:
        """Segment images in turn: paths, pictures of Pillow, or arrays (H, W, 3) of 8-bit RGB.

        Pictures are read one batch at a time: neighbours that the network sees at one size share
        batches of at most `batch_size`. Run it under `torch.autocast` for half precision.

        Raises:
            TypeError: for a single image instead of several.
        """
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            raise TypeError("predict takes several images, found one: write predict([image])")
        pictures = (load_picture(image) for image in images)
        groups = groupby(pictures, key=lambda picture: self.resize.find_size(picture.shape[:2]))
        batches = (batch for _, group in groups for batch in cut_batches(group, batch_size))
        return (found for batch in batches for found in self._predict_batch(batch))

    @torch.inference_mode()
    def _predict_batch(self, pictures: Sequence[Picture]) -> list[Segmentation]:
        """Segment pictures that the network sees at one size."""
        # What the network sees of them
        seen = [
            torch.from_numpy(self.normalise(self.resize(picture))).permute(2, 0, 1)
            for picture in pictures
        ]
        images = torch.stack(seen).to(next(self.network.parameters()).device)

        # Masks at the pictures' own sizes
        sizes = [picture.shape[:2] for picture in pictures]
        answers = self.inference(self.network, images, sizes, pictures)
        return [self._name_classes(answer) for answer in answers]

    def _name_classes(self, answer: Answer) -> Segmentation:
        """Say beside a mask what its values mean."""
        return Segmentation(
            mask=answer.mask.cpu().numpy(),
            confidence=answer.confidence.float().cpu().numpy(),
            classes=self.classes,
            palette=self.palette,
        )


def cut_batches(pictures: Iterator[Picture], size: int) -> Iterator[list[Picture]]:
    """Cut pictures into lists of at most `size`."""
    while batch := list(islice(pictures, size)):
        yield batch


def load_picture(image: Source) -> Picture:
    """Return an image as an array of 8-bit RGB; raises ValueError for arrays of another form."""
    # Files and pictures
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.array(convert_to_rgb(image))

    # Arrays
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an array is {image.dtype} of shape {image.shape}, "
            "expected 8-bit RGB of shape (H, W, 3)"
        )
    return image


def count_pixels(mask: UInt8[np.ndarray, "H W"], classes: Sequence[str]) -> dict[str, int]:
    """Count the pixels of each class that occurs.

    classes: names of the mask's values, the background first.
    """
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=False) if count}
