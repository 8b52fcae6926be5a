"""What a module learned, read from a checkpoint into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from torch import Tensor

from fmawsss.files.released_contexts import find_origin
from fmawsss.files.tensor_files import digest_weights, name_in_errors
from fmawsss.networks.checkpoints import read_learned
from fmawsss.networks.plain_data import check_weights


class FrozenWeights(NamedTuple):
    """Digests of what a module holds and never learns: all of it, and what learning sees of it."""

    applying: str
    learning: str


def digest_frozen(module: L.LightningModule) -> FrozenWeights:
    """Digest frozen weights; parts that a module names in `only_applied` learning does not see.

    An encoder beside CLIP is such a part. What it names in `beside` changes neither product; a
    module from outside the package need not name any.
    """
    beside, only_applied = getattr(module, "beside", ()), getattr(module, "only_applied", ())
    whole = digest_weights(module, beside)
    learning = digest_weights(module, (*beside, *only_applied)) if only_applied else whole
    return FrozenWeights(whole, learning)


def learns(module: L.LightningModule) -> bool:
    """Say whether a module has anything to train; hand-written prompts and superpixels have not."""
    return any(parameter.requires_grad for parameter in module.parameters())


def read_fitting(path: Path, module: L.LightningModule) -> dict[str, Tensor]:
    """Read what was learned.

    Raises:
        ValueError: naming the file, when it was learned for another module, or other weights.
    """
    checkpoint = read_learned(path)
    with name_in_errors(path):
        module.on_load_checkpoint(checkpoint)
        require_weights(checkpoint, module)
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


def require_names(found: Sequence[str], expected: Sequence[str], kind: str) -> None:
    """Raise ValueError unless a checkpoint was trained for the names of this run."""
    if list(found) != list(expected):
        raise ValueError(
            f"the checkpoint was trained for {kind} {list(found)}, this run has {list(expected)}; "
            "use the data set that it was trained on, or train again"
        )


def require_weights(checkpoint: Mapping[str, Any], module: L.LightningModule) -> None:
    """Raise ValueError for prompts that travelled, and were learned with other frozen weights."""
    known = find_origin(checkpoint)
    if known is None:
        return
    weights = digest_frozen(module).learning
    if known != weights:
        raise ValueError(
            f"the prompts were learned with another CLIP, whose weights have the digest {known}, "
            f"those here {weights}: choose it with clip=, or start a training from them with "
            "prompts=released prompts.contexts.path=FILE"
        )


def require_shape(found: Sequence[int], expected: Sequence[int]) -> None:
    """Raise ValueError naming the settings that differ unless two shapes of contexts are equal."""
    if tuple(found) == tuple(expected):
        return
    shared = "prompts=shared"
    own = "prompts=per_class (and the same classes and background)"
    settings = (shared if found[0] == 1 else own, f"prompts.contexts.length={found[1]}", "clip")
    differing = zip(settings, expected, found, strict=False)
    remedies = ", ".join(setting for setting, ours, theirs in differing if ours != theirs)
    raise ValueError(
        f"the checkpoint holds contexts of shape {tuple(found)} (contexts, length, width), these "
        f"prompts are of {tuple(expected)}; choose what it was trained with: {remedies}"
    )
