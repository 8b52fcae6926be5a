"""Hush what libraries say of what is meant to be so."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

INTENDED = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 on torch 2.15
    r"Found \d+ module\(s\) in eval mode",  # a frozen CLIP stays in it
    r"Checkpoint directory .* exists and is not empty",  # an unfinished training
    # a job of a sweep that was killed, repeated
    r"Experiment logs directory .* exists and is not empty",
    r"The '\w+_dataloader' does not have many workers",  # chosen in YAML
    r"Total length of `list` across ranks is zero",  # no validation split, none asked
    r"Total length of `DataLoader` across ranks is zero",  # killed when all images were done
)


def hush_warnings() -> None:
    """Ignore the warnings of libraries that a run of ours provokes on purpose."""
    for message in INTENDED:
        warnings.filterwarnings("ignore", message)


def hush_loggers(configured: Mapping[str, Any]) -> None:
    """Set the levels of loggers again: Lightning's import, which comes after Hydra, changes its."""
    for name, settings in configured.items():
        logging.getLogger(name).setLevel(settings["level"])
