"""What a network's checkpoint says about itself, and how the network is built from that: no config,
no other weights.

A checkpoint is data. It names the parts that make up its network, and only those that our own
packages define to build one are ever called.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from fmawsss.contexts import find_contexts, load_released_context
from fmawsss.files.tensor_files import read_tensors
from fmawsss.viz import make_palette

PACKAGES = (
    "fmawsss",
    "segmentation_models_pytorch",
)  # ours, and one that only adds classes of networks
RESIZING = "fmawsss.resizing"
WEIGHTS = {
    "pretrained",
    "weights",
    "encoder_weights",
}  # settings that name weights, which a checkpoint replaces
NEEDED = ("classes", "palette", "carried", "state_dict")
REMEDY = "delete it and train again, or name another with ckpt=PATH"
SECTIONS = {
    "dataset",
    "module",
    "data",
}  # of the config, which the settings of a checkpoint may change


def describe_classes(classes: tuple[str, ...]) -> dict[str, Any]:
    """Describe the masks for a checkpoint: the classes as prompts name them, and all colours."""
    return {"classes": list(classes), "palette": make_palette(len(classes) + 1).tolist()}


def forget_weights(node: Any) -> Any:
    """Drop, at any depth of a resolved config, what names weights to start from: the part is then
    built without.
    """
    if isinstance(node, Mapping):
        return {
            key: None if key in WEIGHTS else forget_weights(value) for key, value in node.items()
        }
    return [forget_weights(value) for value in node] if isinstance(node, list) else node


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read the checkpoint of a network; nothing in it is run.

    Raises:
        FileNotFoundError, and ValueError for another kind of file or one that names parts which are
        not ours.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no checkpoint {path}: make one with `python train.py task=network`"
        )
    checkpoint = read_tensors(path, REMEDY)
    if not isinstance(checkpoint, dict) or not set(NEEDED) <= set(checkpoint):
        raise ValueError(
            f"{path} is no checkpoint of a network; make one with `python train.py task=network`"
        )
    carried = forget_weights(read_settings(checkpoint["carried"]))
    return {
        **checkpoint,
        "classes": [str(name) for name in checkpoint["classes"]],
        "carried": carried,
    }


def read_learned(path: Path | str) -> dict[str, Any]:
    """Read the checkpoint of a stage: `state_dict`, and what lies beside it. A released one holds
    contexts alone.

    Raises:
        ValueError: for another kind of file.
    """
    checkpoint = read_tensors(path, REMEDY)
    if find_contexts(checkpoint):
        return {"state_dict": {"prompts.context": load_released_context(path)}}
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(
            f"{path} is no checkpoint, it holds neither `state_dict` nor `prompt_learner.ctx`: "
            f"{REMEDY}"
        )
    return checkpoint


def read_settings(carried: Any) -> dict[str, Any]:
    """Return the settings that a checkpoint brings along as plain data; raises ValueError for what
    it may not bring.
    """
    try:
        settings = json.loads(
            json.dumps(carried)
        )  # dictionaries, lists, numbers and strings, and nothing else
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the checkpoint's settings are no plain data ({error}): do not trust this file"
        ) from error
    strange = set(settings) - SECTIONS
    if strange:
        raise ValueError(
            f"the checkpoint wants to change {', '.join(sorted(strange))}: do not trust this file"
        )
    for target in list_targets(settings):
        find_builder(target)
    return settings


def list_targets(node: Any) -> Iterator[str]:
    """List every `_target_` at any depth of a resolved config."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from list_targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from list_targets(value)


def build_part(node: Any) -> Any:
    """Build what a resolved config describes, its own parts first, as Hydra would; only parts of
    ours are built.
    """
    if isinstance(node, list):
        return [build_part(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    settings = {
        key: build_part(value)
        for key, value in node.items()
        if key not in ("_target_", "_partial_")
    }
    if "_target_" not in node:
        return settings
    builder = find_builder(node["_target_"])
    return partial(builder, **settings) if node.get("_partial_") else builder(**settings)


def find_builder(target: str) -> Callable[..., Any]:
    """Find a part by its name: a network, a function of ours that promises to return one, or a
    resize rule.

    Raises:
        ValueError: for anything else, which a checkpoint has no business to name.
    """
    module, _, name = str(target).rpartition(".")
    if module.split(".")[0] in PACKAGES:
        try:
            builder: Any = getattr(import_module(module), name, None)
        except ImportError as error:
            raise ValueError(
                f"the checkpoint names {target!r}, which cannot be imported: {error}"
            ) from error
        if is_network_builder(builder) or getattr(builder, "__module__", None) == RESIZING:
            return builder
    raise ValueError(
        f"the checkpoint names {target!r}, which builds neither a network nor a resize rule: "
        "nothing else is called; "
        "train the network again, or do not trust this file"
    )


def is_network_builder(builder: Any) -> bool:
    """Say whether something is a class of networks, or a function of ours that promises to return
    one.
    """
    package = str(getattr(builder, "__module__", None)).split(".")[0]
    if inspect.isclass(builder):
        return package in PACKAGES and issubclass(builder, nn.Module)
    made = (
        get_type_hints(builder).get("return")
        if package == PACKAGES[0] and inspect.isfunction(builder)
        else None
    )
    return inspect.isclass(made) and issubclass(made, nn.Module)
