"""What a checkpoint may have built: a closed list of builders, called with plain arguments only."""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from torch import nn
from torchvision.models import segmentation

from fmawsss.networks.eomt import EomtNetwork
from fmawsss.networks.library import (
    build_on_smp_encoder,
    build_on_timm_encoder,
    build_torchvision,
    import_smp,
)
from fmawsss.networks.mask2former import Mask2FormerNetwork
from fmawsss.resizing import AlignToPatch, KeepSize, ResizeSquare, ShortSide, ShrinkToPatch

Node: TypeAlias = Mapping[str, Any]  # `_target_`, `_partial_` and arguments, as in a config
Builder: TypeAlias = Callable[..., Any]
Builders: TypeAlias = Mapping[str, Builder]
Clip: TypeAlias = Annotated[nn.Module, "CLIP"]  # open_clip is imported when one is built

RESERVED = {"_target_", "_partial_"}
PLAIN_WORD = re.compile(r"[\w.+-]{0,200}", re.ASCII)  # no path, no address, no hub
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
LONGEST = 200  # characters of a name
LARGEST = 10_000  # of a number: no network of ours has a width, depth or side near it


def build_tower(clip: Clip, classes: int, width: int) -> nn.Module:
    """Build the image tower of a CLIP with a decoder."""
    from fmawsss.networks.towers import TowerNetwork

    return TowerNetwork(clip, classes, width)


def build_open_clip(name: str) -> nn.Module:
    """Build an open_clip model with random weights."""
    from fmawsss.clip.weights import load_open_clip

    return load_open_clip(name, pretrained=None, folder="")


def build_tiny_clip() -> nn.Module:
    """Build the tiny CLIP that ships with the project."""
    from fmawsss.tiny.models import tiny_clip

    return tiny_clip()


NETWORKS: Builders = {
    "fmawsss.networks.towers.TowerNetwork": build_tower,
    "fmawsss.networks.library.build_on_smp_encoder": build_on_smp_encoder,
    "fmawsss.networks.library.build_on_timm_encoder": build_on_timm_encoder,
    "fmawsss.networks.library.build_torchvision": build_torchvision,
    "fmawsss.networks.mask2former.Mask2FormerNetwork": Mask2FormerNetwork,
    "fmawsss.networks.eomt.EomtNetwork": EomtNetwork,
}
CLIPS: Builders = {
    "fmawsss.clip.weights.load_open_clip": build_open_clip,
    "fmawsss.tiny.models.tiny_clip": build_tiny_clip,
}
RESIZES: Builders = {
    "fmawsss.resizing.AlignToPatch": AlignToPatch,
    "fmawsss.resizing.KeepSize": KeepSize,
    "fmawsss.resizing.ResizeSquare": ResizeSquare,
    "fmawsss.resizing.ShortSide": ShortSide,
    "fmawsss.resizing.ShrinkToPatch": ShrinkToPatch,
}
TORCHVISION: Builders = {
    "torchvision.models.segmentation.deeplabv3_mobilenet_v3_large": (
        segmentation.deeplabv3_mobilenet_v3_large
    ),
    "torchvision.models.segmentation.deeplabv3_resnet50": segmentation.deeplabv3_resnet50,
    "torchvision.models.segmentation.deeplabv3_resnet101": segmentation.deeplabv3_resnet101,
    "torchvision.models.segmentation.fcn_resnet50": segmentation.fcn_resnet50,
    "torchvision.models.segmentation.fcn_resnet101": segmentation.fcn_resnet101,
    "torchvision.models.segmentation.lraspp_mobilenet_v3_large": (
        segmentation.lraspp_mobilenet_v3_large
    ),
}
SMP_DECODERS: Mapping[str, str] = {  # names of classes; the library is imported when one is needed
    "segmentation_models_pytorch.DPT": "DPT",
    "segmentation_models_pytorch.DeepLabV3": "DeepLabV3",
    "segmentation_models_pytorch.DeepLabV3Plus": "DeepLabV3Plus",
    "segmentation_models_pytorch.FPN": "FPN",
    "segmentation_models_pytorch.Linknet": "Linknet",
    "segmentation_models_pytorch.MAnet": "MAnet",
    "segmentation_models_pytorch.PAN": "PAN",
    "segmentation_models_pytorch.PSPNet": "PSPNet",
    "segmentation_models_pytorch.Segformer": "Segformer",
    "segmentation_models_pytorch.UPerNet": "UPerNet",
    "segmentation_models_pytorch.Unet": "Unet",
    "segmentation_models_pytorch.UnetPlusPlus": "UnetPlusPlus",
}
EARLIER: Mapping[str, str] = {  # what checkpoints without a version call the same builders
    "fmawsss.clip.load_open_clip": "fmawsss.clip.weights.load_open_clip",
    "fmawsss.library_networks.build_on_smp_encoder": (
        "fmawsss.networks.library.build_on_smp_encoder"
    ),
    "fmawsss.library_networks.build_on_timm_encoder": (
        "fmawsss.networks.library.build_on_timm_encoder"
    ),
    "fmawsss.mask2former.Mask2FormerNetwork": "fmawsss.networks.mask2former.Mask2FormerNetwork",
    "fmawsss.networks.TowerNetwork": "fmawsss.networks.towers.TowerNetwork",
    "fmawsss.weights.load_open_clip": "fmawsss.clip.weights.load_open_clip",
}


def find_decoder(target: str) -> Builder | None:
    """Find a listed network of torchvision or decoder of segmentation_models_pytorch."""
    if target in SMP_DECODERS:
        decoder: Builder = getattr(import_smp(), SMP_DECODERS[target])
        return decoder
    return TORCHVISION.get(target)


def prepare_part(node: Any, find: Callable[[str], Builder | None], what: str) -> Builder:
    """Return the listed builder that a node names, with its arguments filled in.

    find: a builder by its name, None for one that is not listed. what: the part's name in errors.

    Raises:
        ValueError: for a builder that is not listed, and for arguments that it does not take.
    """
    target = read_target(node, what)
    builder = find(EARLIER.get(target, target))
    if builder is None:
        raise ValueError(
            f"the checkpoint names {target!r} as {what}, which is none of our builders"
        )

    # Every argument is known and fits its annotation, none is missing
    given = {key: value for key, value in node.items() if key not in RESERVED}
    wanted = list_parameters(builder)
    unknown = sorted(set(given) - set(wanted))
    missing = [
        name for name, one in wanted.items() if one.default is one.empty and name not in given
    ]
    if unknown or missing:
        fault = f"unknown {', '.join(unknown)}" if unknown else f"no {', '.join(missing)}"
        raise ValueError(f"the checkpoint names {target!r} as {what} with {fault}")
    arguments = {
        key: read_argument(value, wanted[key].annotation, f"{what}.{key}")
        for key, value in given.items()
    }
    return partial(builder, **arguments)


def read_target(node: Any, what: str) -> str:
    """Return the name of a node's builder; raises ValueError for what is no node."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str) or len(target) > LONGEST or not DOTTED.fullmatch(target):
        raise ValueError(f"the checkpoint names no builder as {what}: {reprlib.repr(node)}")
    return target


def list_parameters(builder: Builder) -> dict[str, inspect.Parameter]:
    """List what a checkpoint says to a builder: all parameters but the number of classes."""
    parameters = inspect.signature(builder, eval_str=True).parameters
    open_ended = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        name: one
        for name, one in parameters.items()
        if name != "classes" and one.kind not in open_ended
    }


def read_argument(value: Any, annotation: Any, what: str) -> Any:
    """Return an argument as its annotation wants it; raises ValueError for what does not fit.

    A CLIP is built from its node, a decoder is handed on as a builder; all else is plain data.
    """
    # Parts of a network
    if annotation is Clip:
        return prepare_part(value, CLIPS.get, what)()
    if annotation == Callable[..., nn.Module]:
        return prepare_part(value, find_decoder, what)

    # Plain data
    if not is_plain(value, annotation):
        expected = inspect.formatannotation(annotation)
        raise ValueError(
            f"the checkpoint says {what}={reprlib.repr(value)}, expected plain data: {expected} "
            f"(words of {LONGEST} letters, numbers up to {LARGEST})"
        )
    return value


def is_plain(value: Any, annotation: Any) -> bool:
    """Say whether plain data fit an annotation; what is annotated otherwise takes nothing.

    Strings are words, so that none is a path or an address; open mappings hold numbers and lists.
    """
    # Made of other annotations
    origin, choices = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(is_plain(value, choice) for choice in choices)
    if origin is Literal:
        return type(value) in (int, str) and value in choices
    if origin in (Sequence, Iterable, list):
        return isinstance(value, list) and all(is_plain(one, choices[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(is_setting(one) for one in value.values())

    # Simple ones
    if annotation is str:
        return isinstance(value, str) and PLAIN_WORD.fullmatch(value) is not None
    if annotation is float:
        return is_number(value)
    if annotation is int:
        return is_number(value) and type(value) is int
    return annotation in (bool, type(None)) and type(value) is annotation


def is_setting(value: Any) -> bool:
    """Say whether a value is a number, a Boolean, null, or a list of them."""
    if isinstance(value, list):
        return all(is_setting(one) for one in value)
    return value is None or isinstance(value, bool) or is_number(value)


def is_number(value: Any) -> bool:
    """Say whether a value is a number of a size that a network may have."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST
