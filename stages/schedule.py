"""How long a stage learns, where that follows the number of images: `runtime.passes`."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any


def choose_steps(node: Any, count_images: Callable[[Any], int], steps: int | None = None) -> str:
    """Set the open steps of a training in its node of the config, or `steps` for all.

    `runtime.passes` says how often all images are seen, and between which numbers of steps; what a
    checkpoint depends on is the steps. Returns what to say of steps that were chosen.

    Raises:
        ValueError: for open steps without that.
    """
    training = node.training
    if training.view is None:
        return ""
    if steps is not None:
        node.runtime.apply_step = None
        set_steps(node, steps)
    if training.loop.max_steps is not None:
        return ""
    passes = node.runtime.passes
    if passes is None:
        raise ValueError(f"{node.name}: loop.max_steps has no value: set a whole number")
    images = count_images(training.view.split)
    steps = ceil(passes.over_images * images / training.view.batch_size)
    steps = min(max(steps, passes.least), passes.most)
    set_steps(node, steps)
    seen = steps * training.view.batch_size / max(images, 1)
    return (
        f"{node.name}: {steps} steps, {seen:.0f} passes over {images} images (runtime.passes, or "
        "loop.max_steps=…)"
    )


def set_steps(node: Any, steps: int) -> None:
    """Set the steps of a training, and what depends on them."""
    node.training.loop.max_steps = steps
    scheduler = node.learning.scheduler
    if "warmup" in scheduler:
        scheduler.warmup = min(scheduler.warmup, steps // 10)
    node.runtime.save_every = min(node.runtime.save_every, max(steps // 5, 1))
