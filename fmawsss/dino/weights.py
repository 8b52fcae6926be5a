"""The published weights of DINO: found on disk or downloaded, and made an encoder."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm

from fmawsss.dino.encoder import DinoEncoder
from fmawsss.files.downloads import HUB, NotFetchedError, fetch_file
from fmawsss.files.tensor_files import MODEL, describe_fault, require_finite
from fmawsss.networks.library import count_bytes

USUAL = ["vit_base_patch14_dinov2.lvd142m", "vit_base_patch16_dinov3.lvd1689m"]


def load_dino(name: str, folder: str) -> DinoEncoder:
    """Build a vision transformer of timm in float32 from weights under `folder`.

    Weights that are missing are downloaded to `<folder>/<repository>/model.safetensors`. The hub
    publishes no checksum beside the address: a file is right when its tensors are those of the
    model, whole and finite.

    Raises:
        ValueError: for an unknown model or weights, a network that is no plain vision transformer,
            and a file that is broken or belongs to another model.
        FileNotFoundError: when there are no weights and no network, naming the address and where
            the file belongs.
    """
    vit = build_vit(name)
    config = vit.pretrained_cfg
    untrained = DinoEncoder(vit, config["mean"], config["std"])
    try:
        path = find_weights(name, config, Path(folder), count_bytes(vit))
    except NotFetchedError:  # of the same size, for a plan
        return untrained
    try:
        vit = build_vit(name, pretrained=True, overlay={"file": str(path)})
        require_finite(vit.named_parameters())
    except Exception as error:  # timm, torch and safetensors have many kinds for one fault
        raise ValueError(
            f"{path} holds no whole weights of {name} ({describe_fault(error)}): delete it, "
            "published ones will be fetched again, or choose the model that they belong to "
            "(dino.name=…)"
        ) from None
    return DinoEncoder(vit, config["mean"], config["std"])


def build_vit(name: str, pretrained: bool = False, overlay: dict[str, Any] | None = None) -> Any:
    """Build a network of timm that takes images of any size, without a classifier."""
    known = timm.list_pretrained()
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5) or USUAL
        raise ValueError(
            f"timm {timm.__version__} has no weights called {name!r}; near it: {', '.join(near)}. "
            "Set dino.name to one that timm.list_pretrained('vit*dino*') names"
        )
    try:
        return timm.create_model(
            name, pretrained, pretrained_cfg_overlay=overlay, num_classes=0, dynamic_img_size=True
        )
    except TypeError as error:  # networks with pyramids have no such argument
        raise ValueError(
            f"timm's {name!r} is no plain vision transformer ({describe_fault(error)}): set "
            "dino.name to one such as vit_base_patch14_dinov2.lvd142m"
        ) from None


def find_weights(name: str, config: dict[str, Any], folder: Path, size: int) -> Path:
    """Return the weights file of a model, downloading it when it is missing."""
    repository = config["hf_hub_id"]
    path = folder / repository.split("/")[-1] / MODEL
    try:
        return fetch_file(path, f"{HUB}/{repository}/resolve/main/{MODEL}", about=size)
    except FileNotFoundError as error:
        if "dinov3" not in name:
            raise
        raise FileNotFoundError(
            f"{error}; where the hub asks for it, accept DINOv3's licence at {HUB}/{repository} "
            "and download the file with your account, or choose dino=dinov2_vitb14, which is free"
        ) from error
