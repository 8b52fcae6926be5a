"""Bad inputs: checkpoints."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .judge import BadInput
from .project import FOLDER, LABELLED, infer

Content = dict[str, Any]
NETWORK = "outputs/shapes/network.ckpt"
FOREIGN = "foreign.ckpt"
APPLY = infer("network", *FOLDER, f"ckpt={FOREIGN}", "paths.work=outputs/foreign")
DISTRUST = "do not trust this file"
AGAIN = "name it again: python infer.py"
DELETE = "delete it and train again, or name another with ckpt=PATH"


class Harmful:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def network(
    name: str, spoil: Callable[[Content], Any], names: str, tells: str, command: Sequence[str] = ()
) -> BadInput:
    """A changed copy of the network's checkpoint, applied by its path."""

    def prepare(folder: Path) -> None:
        content = torch.load(folder / NETWORK, weights_only=True)
        changed = spoil(content)
        torch.save(content if changed is None else changed, folder / FOREIGN)

    names = rf"foreign\.ckpt.*{names}"
    return BadInput(f"network_{name}", "checkpoints", command or APPLY, prepare, names, tells)


def carried(name: str, spoil: Callable[[Content], Any], names: str, tells: str) -> BadInput:
    """A changed copy whose carried settings differ."""

    def change(content: Content) -> None:
        spoil(content["carried"])

    return network(name, change, names, tells)


def weights(name: str, change: Callable[[str, torch.Tensor], Any], tells: str) -> BadInput:
    """A changed copy whose weights differ."""

    def spoil(content: Content) -> None:
        state = content["state_dict"]
        content["state_dict"] = {key: change(key, value) for key, value in state.items()}

    return network(f"weights_{name}", spoil, "", tells)


def learned(name: str, spoil: Callable[[Content], Any], names: str, tells: str) -> BadInput:
    """A changed copy of the prompts' checkpoint, applied by its path."""

    def prepare(folder: Path) -> None:
        content = torch.load(folder / "outputs/folder/cls.ckpt", weights_only=True)
        changed = spoil(content)
        torch.save(content if changed is None else changed, folder / FOREIGN)

    command = infer("cls", *LABELLED, f"ckpt={FOREIGN}", "paths.work=outputs/foreign")
    command += ["data.superpixels=outputs/folder/superpixels"]
    names = rf"foreign\.ckpt.*{names}"
    return BadInput(f"prompts_{name}", "checkpoints", command, prepare, names, tells)


def file(name: str, prepare: Callable[[Path], Any], tells: str) -> BadInput:
    """A file that is no checkpoint."""
    return BadInput(f"file_{name}", "checkpoints", APPLY, prepare, r"foreign\.ckpt", tells)


def write_bomb(path: Path) -> None:
    """Write a small archive of three gigabytes of zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range(3000):
            member.write(bytes(1 << 20))


def nest(content: Content) -> None:
    """Put a list within lists, deeper than Python calls go."""
    inner: list[Any] = []
    for _ in range(400):
        inner = [inner]
    content["carried"]["network"]["width"] = inner


def harm(key: str, *places: str) -> Callable[[Content], None]:
    """Put a node that runs a program in some place."""

    def spoil(carried: Content) -> None:
        node = carried
        for place in places:
            node = node[place]
        node[key] = {"_target_": "os.system", "command": "touch ran"}

    return spoil


RUN = "${oc.create:{_target_: os.system, command: touch ran}}"

CASES: list[BadInput] = [
    # files
    file("empty", lambda folder: (folder / FOREIGN).write_bytes(b""), DELETE),
    file("of_text", lambda folder: (folder / FOREIGN).write_text("weights"), DELETE),
    file(
        "cut",
        lambda folder: (folder / FOREIGN).write_bytes((folder / NETWORK).read_bytes()[:50_000]),
        DELETE,
    ),
    file(
        "pickled",
        lambda folder: (folder / FOREIGN).write_bytes(pickle.dumps(Harmful())),
        DELETE,
    ),
    file("bomb", lambda folder: write_bomb(folder / FOREIGN), DISTRUST),
    file("a_folder", lambda folder: (folder / FOREIGN).mkdir(), "no checkpoint of stage network"),
    file("pipe", lambda folder: os.mkfifo(folder / FOREIGN), "no checkpoint of stage network"),
    file(
        "round_link",
        lambda folder: (folder / FOREIGN).symlink_to(FOREIGN),
        "no checkpoint of stage network",
    ),
    network("a_tensor", lambda content: torch.zeros(3), "", "is no checkpoint of a network"),
    network("harmful_object", lambda content: {**content, "x": Harmful()}, "", DELETE),
    # what it says of classes
    network("class_is_number", lambda c: c["classes"].append(7), "classes", DISTRUST),
    network("classes_text", lambda c: c.update(classes="abcdefgh"), "classes", DISTRUST),
    network(
        "class_twice",
        lambda c: c["classes"].__setitem__(0, "star"),
        "classes",
        "same name as another, first 'star'",
    ),
    network(
        "class_background",
        lambda c: c["classes"].__setitem__(0, "background"),
        "classes",
        "take it out",
    ),
    network("class_escapes", lambda c: c["classes"].__setitem__(0, "\x1b[2J"), "", "expected at"),
    network("no_classes", lambda c: c.update(classes=[], palette=[[0, 0, 0]]), "", DISTRUST),
    network("palette_short", lambda c: c.update(palette=[[0, 0, 0]]), "palette", "not 9 colours"),
    network("palette_is_text", lambda c: c.update(palette="red"), "palette", "not 9 colours"),
    network("from_the_future", lambda c: c.update(version=99), "version 99", "update this program"),
    # what it carries
    carried("network_runs", harm("network"), "'os.system' as network", AGAIN),
    carried("clip_runs", harm("clip", "network"), "'os.system' as network.clip", AGAIN),
    carried("resize_runs", harm("resize"), "'os.system' as resize", AGAIN),
    carried("width_runs", harm("width", "network"), "network.width", "expected plain data"),
    carried(
        "resolver",
        lambda c: c["resize"].update(patch=RUN),
        "resize.patch",
        "expected plain data: int",
    ),
    carried("unknown_argument", lambda c: c["network"].update(x=1), "unknown x", AGAIN),
    carried("positions", lambda c: c["network"].update(_args_=["a"]), "unknown _args_", AGAIN),
    carried("sections", lambda c: c.update(dataset={"root": "/"}), "change dataset", DISTRUST),
    carried("network_is_text", lambda c: c.update(network="resnet"), "as network", "resnet"),
    carried("resize_to_nothing", lambda c: c["resize"].update(patch=0), "patch=0", "expected 1 to"),
    carried("mean_nan", lambda c: c.update(image_mean=[float("nan")] * 3), "image_mean", DISTRUST),
    carried("deviation_zero", lambda c: c.update(image_std=[0.0] * 3), "image_std", DISTRUST),
    carried("mean_of_text", lambda c: c.update(image_mean=["a"] * 3), "image_mean", DISTRUST),
    network("nested", nest, "network.width", "expected plain data"),
    # its weights
    weights("nan", lambda key, value: value * float("nan"), "are not finite.*train again"),
    weights("of_another_shape", lambda key, value: value[None], "belong to another network"),
    weights("whole_numbers", lambda key, value: value.long(), "belong to another network"),
    weights("no_tensors", lambda key, value: value.tolist(), DISTRUST),
    weights("without_memory", lambda key, value: value.to("meta"), DISTRUST),
    weights(
        "one_number_everywhere",
        lambda key, value: torch.zeros(1).expand(10**12) if "classify" in key else value,
        DISTRUST,
    ),
    network("no_weights", lambda c: c.update(state_dict={}), "", "belong to another network"),
    # prompts
    learned("other_classes", lambda c: c["classes"].reverse(), "trained for classes", "use the"),
    learned("class_is_number", lambda c: c["classes"].append(7), "classes", DISTRUST),
    learned("no_state", lambda c: {"a": 1}, "holds neither `state_dict`", DELETE),
    learned("empty_state", lambda c: c.update(state_dict={}), "lacks", "another task or other"),
    learned(
        "contexts_nan",
        lambda c: {"state_dict": {"prompt_learner.ctx": torch.full((4, 8), float("nan"))}},
        "contexts of",
        "expected finite numbers",
    ),
    learned(
        "contexts_flat",
        lambda c: {"state_dict": {"prompt_learner.ctx": torch.zeros(4)}},
        "contexts of",
        "of shape .contexts, length, width.",
    ),
    learned(
        "contexts_of_another_clip",
        lambda c: {"state_dict": {"prompt_learner.ctx": torch.zeros(16, 7)}},
        "contexts of shape",
        "choose what it was trained with",
    ),
]
