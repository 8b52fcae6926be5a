"""The checkpoint of a network: weights, and plain data that say how it is built and applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn

from fmawsss.files.released_contexts import find_contexts, load_released_context
from fmawsss.files.tensor_files import describe_fault, name_in_errors, read_tensors
from fmawsss.networks.builders import NETWORKS, RESIZES, Node, prepare_part, read_target
from fmawsss.networks.plain_data import (
    LARGEST,
    check_weights,
    make_plain,
    read_channels,
    read_classes,
    read_names,
    read_palette,
    read_weights,
    require_keys,
    require_mapping,
)
from fmawsss.resizing import Normaliser, Resize
from fmawsss.viz import make_palette

CHECKPOINT_VERSION = 2
WEIGHTS = {"pretrained", "weights", "encoder_weights", "folder"}  # a checkpoint brings its own
SAID = ("version", "classes", "palette", "carried", "config")
LEARNED = {"classes": read_classes, "prompt_names": read_names}  # what prompts are for
REMEDY = "delete it and train again, or name another with ckpt=PATH"


@dataclass(frozen=True, eq=False)
class NetworkCheckpoint:
    """What a network's checkpoint says, all of it plain data.

    classes: names without the background; palette: colours, the background's first.
    network, resize: the nodes that they are built from, see `build_network` and `build_resize`.
    state_dict: weights of the module, those of the network below `network.`.
    described: all of it but the weights, and the settings it was learned with, as in the file.
    """

    path: Path
    classes: tuple[str, ...]
    network: Node
    resize: Node
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    state_dict: Mapping[str, Tensor]
    palette: UInt8[np.ndarray, "R 3"]
    described: Mapping[str, Any]

    @property
    def normalise(self) -> Normaliser:
        """How the values of images become what the network sees."""
        return Normaliser(self.image_mean, self.image_std)


def describe_classes(classes: Sequence[str]) -> dict[str, Any]:
    """Describe for a checkpoint what masks hold: names of classes, and all colours."""
    palette = make_palette(len(classes) + 1).tolist()
    return {"version": CHECKPOINT_VERSION, "classes": list(classes), "palette": palette}


def describe_network(
    network: Node, resize: Node, image_mean: Sequence[float], image_std: Sequence[float]
) -> dict[str, Any]:
    """Describe for a checkpoint how its network is built and how it sees images.

    network, resize: nodes of a config, of any builder; names of weights are left out.

    Raises:
        ValueError: for settings that are no plain data.
    """
    for node, what in ((network, "network"), (resize, "resize")):
        read_target(node, what)
    settings = {"network": drop_weights(network), "resize": dict(resize)}
    settings |= {"image_mean": list(image_mean), "image_std": list(image_std)}
    plain: dict[str, Any] = make_plain(settings)
    return plain


def drop_weights(node: Any) -> Any:
    """Drop, at any depth of a node, what names weights to start from and where they lie."""
    if isinstance(node, list):
        return [drop_weights(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    return {key: drop_weights(value) for key, value in node.items() if key not in WEIGHTS}


def read_checkpoint(path: Path | str) -> NetworkCheckpoint:
    """Read the checkpoint of a network; nothing in it is run, resolved or imported.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for another kind of file, and for data that are not as they should be.
    """
    # A file of the right kind
    make = "make one with `python train.py task=network`"
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint {path}: {make}")
    content = read_tensors(path, REMEDY)
    needed = {"classes", "palette", "carried", "state_dict"}
    if not isinstance(content, dict) or not needed <= set(content):
        raise ValueError(f"{path} is no checkpoint of a network; {make}")

    # What it says
    with name_in_errors(Path(path)):
        named, carried = read_description(content)
        classes = read_classes(named, "classes")
        settings = require_keys(
            carried, {"network", "resize", "image_mean", "image_std"}, "carried"
        )
        for what in ("network", "resize"):
            read_target(settings[what], what)
        return NetworkCheckpoint(
            path=Path(path),
            classes=classes,
            network=settings["network"],
            resize=settings["resize"],
            image_mean=read_channels(settings["image_mean"], "image_mean", -LARGEST),
            image_std=read_channels(settings["image_std"], "image_std", 1 / LARGEST),
            state_dict=read_weights(content["state_dict"]),
            palette=read_palette(content["palette"], len(classes) + 1),
            described=make_plain({key: content[key] for key in SAID if key in content}),
        )


def read_description(content: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the class names and settings of a checkpoint of any version, as plain data.

    One without a version is of the time when `classes` were prompt names. Its settings lie in
    sections (`data`, `module`, `dataset`), and `dataset.names`, if any, are the class names.
    """
    carried, classes = make_plain(content["carried"]), make_plain(content["classes"])
    if "version" in content:
        if content["version"] != CHECKPOINT_VERSION:
            raise ValueError(
                f"the checkpoint is of version {content['version']}, expected "
                f"{CHECKPOINT_VERSION}: update this program"
            )
        return classes, carried

    # Sections of the config of that time
    carried = {"dataset": {}, **require_mapping(carried, "carried")}
    sections = require_keys(carried, {"dataset", "module", "data"}, "carried")
    names = require_keys({"names": None, **sections["dataset"]}, {"names"}, "carried.dataset")
    module = {"weights": None, **require_mapping(sections["module"], "carried.module")}
    network = require_keys(module, {"network", "weights"}, "carried.module")["network"]
    data = {**require_mapping(sections["data"], "carried.data"), "network": drop_weights(network)}
    return names["names"] or classes, data


def build_network(
    checkpoint: NetworkCheckpoint, build: Callable[..., nn.Module] | None = None
) -> nn.Module:
    """Build the network of a checkpoint, with its weights.

    build: builds it for a number of classes; needed for networks that are not on our list.

    Raises:
        ValueError: for a network that must be named again, and for weights of another network.
    """
    # With random weights, then with its own
    network = choose_builder(checkpoint, build)(classes=len(checkpoint.classes) + 1)
    learned = {
        name.removeprefix("network."): value
        for name, value in checkpoint.state_dict.items()
        if name.startswith("network.")
    }
    with name_in_errors(checkpoint.path):
        check_weights(network.state_dict(), learned)
    network.load_state_dict(learned)
    return network


def choose_builder(
    checkpoint: NetworkCheckpoint, build: Callable[..., nn.Module] | None = None
) -> Callable[..., nn.Module]:
    """Return what builds the network of a checkpoint: `build`, else the listed builder it names.

    Raises:
        ValueError: saying what to type, for a checkpoint that names another builder.
    """
    if build is not None:
        return build
    try:
        listed = prepare_part(checkpoint.network, NETWORKS.get, "network")
    except ValueError as error:
        raise ask_again(checkpoint, error, "network", "network.build", "build=…") from None
    return partial(build_listed, checkpoint.path, listed)


def build_listed(path: Path, build: Callable[..., nn.Module], classes: int) -> nn.Module:
    """Build a network with what a checkpoint says; raises ValueError where that does not go."""
    try:
        return build(classes=classes)
    except ImportError:
        raise
    except Exception as error:  # libraries have many kinds for arguments that do not fit
        raise ValueError(
            f"{path}: its network cannot be built ({describe_fault(error)}): {REMEDY}"
        ) from error


def build_resize(checkpoint: NetworkCheckpoint, resize: Resize | None = None) -> Resize:
    """Return how images get the size that the network wants: `resize`, else the checkpoint's rule.

    Raises:
        ValueError: saying what to type, for a checkpoint that names another rule.
    """
    if resize is not None:
        return resize
    try:
        rule: Resize = prepare_part(checkpoint.resize, RESIZES.get, "resize")()
    except ValueError as error:
        raise ask_again(checkpoint, error, "resize", "network.resize", "resize=…") from None
    return rule


def ask_again(
    checkpoint: NetworkCheckpoint, fault: ValueError, what: str, key: str, argument: str
) -> ValueError:
    """Make the line that asks for a part to be named again."""
    path, target = checkpoint.path, getattr(checkpoint, what)["_target_"]
    return ValueError(
        f"{path}: {fault}, and a file never chooses code to run; if you know it, name it again: "
        f"python infer.py task=network ckpt={path} network=own {key}._target_={target} (and its "
        f"arguments, or network= with a file of yours), or Segmenter.from_checkpoint(…, {argument})"
    )


def read_learned(path: Path | str) -> dict[str, Any]:
    """Read the checkpoint of a stage: `state_dict`, and what lies beside it.

    A released one holds contexts alone.

    Raises:
        ValueError: for another kind of file.
    """
    # Of another project
    checkpoint = read_tensors(path, REMEDY)
    if find_contexts(checkpoint):
        return {"state_dict": {"prompts.context": load_released_context(path)}}

    # One of ours
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(
            f"{path} is no checkpoint, it holds neither `state_dict` nor `prompt_learner.ctx`: "
            f"{REMEDY}"
        )
    with name_in_errors(Path(path)):
        found = {key: checkpoint[key] for key in LEARNED if key in checkpoint}
        named = {key: LEARNED[key](names, key) for key, names in make_plain(found).items()}
        return {**checkpoint, **named, "state_dict": read_weights(checkpoint["state_dict"])}
