"""How long a stage learns, where that follows the number of images: `runtime.passes`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import ceil
from typing import Any

logger = logging.getLogger(__name__)


def choose_steps(node: Any, count_images: Callable[[Any], int]) -> None:
    """Set the open steps of a training in its node of the config, and shorten its warm-up.

    `runtime.passes` says how often all images are seen, and between which numbers of steps; what a
    checkpoint depends on is the steps.

    Raises:
        ValueError: for open steps without that.
    """
    training = node.training
    if training.view is None or training.loop.max_steps is not None:
        return
    passes = node.runtime.passes
    if passes is None:
        raise ValueError(f"{node.name}: loop.max_steps has no value: set a whole number")
    images = count_images(training.view.split)
    steps = ceil(passes.over_images * images / training.view.batch_size)
    steps = min(max(steps, passes.least), passes.most)

    # what depends on the steps
    training.loop.max_steps = steps
    scheduler = node.learning.scheduler
    if "warmup" in scheduler:
        scheduler.warmup = min(scheduler.warmup, steps // 10)
    node.runtime.save_every = min(node.runtime.save_every, max(steps // 5, 1))
    logger.info(
        "%s: %d steps, %.0f passes over %d images (runtime.passes, or loop.max_steps=…)",
        node.name,
        steps,
        steps * training.view.batch_size / max(images, 1),
        images,
    )
