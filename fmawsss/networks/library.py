"""Networks of libraries, and ImageNet weights of their encoders; heads always start at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from fmawsss.files.downloads import HUB, NotFetchedError, fetch_file

WEIGHTS_FILE = "model.safetensors"


class AnySizeNetwork(nn.Module):
    """A network of segmentation_models_pytorch for images of any size.

    Sides are stretched to the next multiple of what the encoder needs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        encoder: Any = self.encoder
        self.stride: int = encoder.output_stride

    @property
    def encoder(self) -> nn.Module:
        """The encoder, which starts from weights of its own."""
        return self.network.get_submodule("encoder")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R H W"]:
        """Compute the logits of R classes, background first."""
        size = images.shape[-2:]
        aligned = [(side + self.stride - 1) // self.stride * self.stride for side in size]
        images = F.interpolate(images, size=aligned, mode="bilinear", align_corners=False)
        return F.interpolate(self.network(images), size=size, mode="bilinear", align_corners=False)


class DictionaryNetwork(nn.Module):
    """A network that answers a dictionary, as torchvision's do: its logits stand in `out`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.network.get_submodule("backbone")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R H W"]:
        """Compute the logits of R classes, background first."""
        logits: Tensor = self.network(images)["out"]
        return logits


def build_torchvision(network: Callable[..., nn.Module], classes: int) -> nn.Module:
    """Build a segmentation network of torchvision with random weights."""
    return DictionaryNetwork(network(weights=None, weights_backbone=None, num_classes=classes))


def build_on_smp_encoder(
    decoder: Callable[..., nn.Module], encoder: str, classes: int
) -> nn.Module:
    """Build a decoder on an encoder of segmentation_models_pytorch, with random weights.

    encoder: its name in that library, such as `resnet101` or `mit_b5`.
    """
    return AnySizeNetwork(decoder(encoder_name=encoder, encoder_weights=None, classes=classes))


def load_smp_encoder(network: nn.Module, encoder: str, folder: str) -> None:
    """Give the encoder of a network its ImageNet weights, fetched to `folder` if need be.

    Raises:
        FileNotFoundError: naming address and place, when they cannot be fetched.
    """
    source = import_smp().encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
    address = f"{HUB}/{source['repo_id']}/resolve/{source['revision']}/{WEIGHTS_FILE}"
    place, inner = Path(folder) / source["repo_id"].split("/")[-1], network.get_submodule("encoder")
    try:
        path = fetch_file(place / WEIGHTS_FILE, address, about=count_bytes(inner))
    except NotFetchedError:  # a plan goes on without
        return
    inner.load_state_dict(load_file(path))


def count_bytes(encoder: nn.Module) -> int:
    """Count the bytes of an encoder, about the size of a file that holds it."""
    return sum(tensor.nbytes for tensor in encoder.state_dict().values())


def build_on_timm_encoder(
    decoder: Callable[..., nn.Module], encoder: str, settings: Mapping[str, Any], classes: int
) -> nn.Module:
    """Build a decoder on an encoder of timm that has feature maps, with random weights.

    settings: arguments of timm's encoder.

    Raises:
        ValueError: for feature maps that are no pyramid, as those of a plain vision transformer.
    """
    # The decoder's library builds encoders of timm by a name of its own
    name = f"tu-{encoder}"
    try:
        network = decoder(encoder_name=name, encoder_weights=None, classes=classes, **settings)
    except ValueError as error:
        if "downsampling pattern" not in str(error):
            raise
        raise ValueError(
            f"timm's encoder {encoder!r} has no feature maps at strides 4, 8, 16 and 32, from "
            "which a decoder makes its pyramid; choose another as network.build.encoder, such as "
            "resnet50.a1_in1k, convnext_tiny.fb_in22k or tf_efficientnetv2_s.in21k; "
            "network=tower is for a plain vision transformer, that of CLIP"
        ) from error
    return AnySizeNetwork(network)


def load_timm_encoder(
    network: nn.Module, encoder: str, settings: Mapping[str, Any], folder: str
) -> None:
    """Give the encoder of a network timm's weights of that name, fetched to `folder` if need be.

    Raises:
        FileNotFoundError: naming address and place, when they cannot be fetched.
        ValueError: where timm has none.
    """
    import timm

    # Where the weights come from
    known = timm.list_pretrained(f"{encoder.split('.')[0]}*")
    source = timm.get_pretrained_cfg(encoder) if encoder in known or "." not in encoder else None
    if source is None or not source.hf_hub_id:
        names = ", ".join(known[:5]) or "none of that kind"
        raise ValueError(
            f"timm has no weights called {encoder!r}, but {names}; network.weights=null starts at "
            "random"
        )
    file = source.hf_hub_filename or WEIGHTS_FILE
    address = f"{HUB}/{source.hf_hub_id}/resolve/main/{file}"
    place, inner = Path(folder) / source.hf_hub_id.split("/")[-1], network.get_submodule("encoder")
    try:
        path = fetch_file(place / file, address, about=count_bytes(inner))
    except NotFetchedError:  # a plan goes on without
        return

    # timm itself renames what its feature maps call otherwise
    features: Any = network.get_submodule("encoder.model")
    trained = timm.create_model(
        encoder, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, features_only=True,
        out_indices=features.feature_info.out_indices, **settings,
    )  # fmt: skip
    features.load_state_dict(trained.state_dict())


def import_smp() -> Any:
    """Import segmentation_models_pytorch, or say how to install it."""
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise ModuleNotFoundError(
            "this network needs segmentation_models_pytorch "
            f'({error}): pip install -e ".[networks]"'
        ) from error
    return segmentation_models_pytorch
