"""The endless order of training images: stateless, so that a resumed run goes on in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

# Streams of one seed: the order of images and their augmentation are independent.
ORDER_STREAM = 0
AUGMENT_STREAM = 1
VIEW_STREAM = 3


@dataclass(frozen=True)
class BatchPlan:
    """How one optimiser step's `batch_size` images are dealt to micro-batches and to processes.

    A micro-batch is a stretch of consecutive positions, and every process takes its slice of it:
    the processes see together what one process alone would see.
    """

    batch_size: int
    micro_batches: int
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        parts = self.micro_batches * self.world_size
        if self.batch_size < 1 or parts < 1 or self.batch_size % parts:
            raise ValueError(
                f"batch_size={self.batch_size} does not divide into {self.micro_batches} "
                f"micro-batches on {self.world_size} processes; choose a batch_size that is a "
                f"multiple of {parts}"
            )

    def list_positions(self, micro_batch: int) -> range:
        """List the positions that this process reads; both count from the start of the run."""
        share = self.batch_size // (self.micro_batches * self.world_size)
        first = (micro_batch * self.world_size + self.rank) * share
        return range(first, first + share)


class EndlessMicroBatches(Sampler[int]):
    """Count micro-batches without end, from the first one of an optimiser step."""

    def __init__(self, first_step: int, micro_batches: int) -> None:
        self.first_step = first_step
        self.micro_batches = micro_batches

    def __iter__(self) -> Iterator[int]:
        micro_batch = self.first_step * self.micro_batches
        while True:
            yield micro_batch
            micro_batch += 1


def find_image(position: int, images: int, seed: int) -> int:
    """Find which of `images` stands at a position: every epoch is a permutation of them."""
    epoch, place = divmod(position, images)
    return int(permute_images(images, seed, epoch)[place])


@lru_cache(maxsize=4)
def permute_images(images: int, seed: int, epoch: int) -> Int[np.ndarray, "images"]:
    """Draw the order of one epoch."""
    return np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(images)


def seed_augmentation(position: int, seed: int) -> np.random.Generator:
    """Return the generator that augments the image at a position."""
    return np.random.default_rng([seed, AUGMENT_STREAM, position])


def find_view(position: int, images: int, views: int, seed: int) -> int:
    """Find which fixed view stands at a position; epochs take the views of an image in turn.

    Views are numbered image by image: image · views + number.
    """
    return find_image(position, images, seed) * views + position // images % views


def seed_view(view: int, seed: int) -> np.random.Generator:
    """Return the generator that makes a fixed view."""
    return np.random.default_rng([seed, VIEW_STREAM, view])
