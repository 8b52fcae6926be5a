"""What a module learned, read from a checkpoint into it."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from torch import Tensor

from fmawsss.files.tensor_files import name_in_errors
from fmawsss.networks.checkpoints import read_learned
from fmawsss.networks.plain_data import check_weights


def learns(module: L.LightningModule) -> bool:
    """Say whether a module has anything to train; hand-written prompts and superpixels have not."""
    return any(parameter.requires_grad for parameter in module.parameters())


def read_fitting(path: Path, module: L.LightningModule) -> dict[str, Tensor]:
    """Read what was learned.

    Raises:
        ValueError: naming the file, when it was learned for another module.
    """
    checkpoint = read_learned(path)
    with name_in_errors(path):
        module.on_load_checkpoint(checkpoint)
    return checkpoint["state_dict"]


def read_prompt_names(path: Path) -> tuple[list[str], list[str]]:
    """Read class names and prompt names of the prompts in a checkpoint.

    A checkpoint without `version` holds one list, the prompt names, and is read as if the classes
    had no other names.

    Raises:
        ValueError: for a file without them.
    """
    checkpoint = read_learned(path)
    if "classes" not in checkpoint:
        raise ValueError(f"{path} does not say for which classes it was trained: train again")
    classes = list(checkpoint["classes"])
    return classes, list(checkpoint.get("prompt_names", classes))


def load_fitting(path: Path, module: L.LightningModule) -> None:
    """Load what was learned.

    Raises:
        ValueError: naming the file, when it does not fit.
    """
    state, wanted = read_fitting(path, module), module.state_dict()
    if not module.strict_loading:  # a part of the module was learned
        state = {name: value for name, value in state.items() if name in wanted}
        wanted = {name: wanted[name] for name in state}
    with name_in_errors(path):
        check_weights(wanted, state)
        module.load_state_dict(state, strict=module.strict_loading)
