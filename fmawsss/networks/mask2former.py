"""Mask2Former (Cheng et al., CVPR 2022) of `transformers`: queries answer a class and a mask."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.files.downloads import HUB, NotFetchedError, fetch_file
from fmawsss.networks.library import count_bytes
from fmawsss.resizing import Size

WEIGHTS_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # a repository holds one of them at least
STAGES = ["stage1", "stage2", "stage3", "stage4"]
EPSILON = 1e-12  # the least that a class gets of a pixel, so that its logarithm is finite


@dataclass(frozen=True)
class MaskQueries:
    """What each decoder output in turn says for each query: a class or none, and a mask."""

    classes: list[Float[Tensor, "B queries answers"]]  # logits of R classes, "no object" last
    masks: list[Float[Tensor, "B queries h w"]]  # logits


class Mask2FormerNetwork(nn.Module):
    """Mask2Former on a Swin, with random weights.

    In training it answers `MaskQueries`, applied it answers logits per pixel.

    swin, decoder: settings of the library's `SwinConfig` and `Mask2FormerConfig`.
    """

    def __init__(self, swin: Mapping[str, Any], decoder: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        transformers = import_transformers()
        check_settings(swin, transformers.SwinConfig, "swin")
        check_settings(decoder, transformers.Mask2FormerConfig, "decoder")

        # The Swin hands on the feature maps of all its stages
        backbone = transformers.SwinConfig(**swin, out_features=STAGES)
        config = transformers.Mask2FormerConfig(
            backbone_config=backbone, num_labels=classes, **decoder
        )
        self.model = transformers.Mask2FormerForUniversalSegmentation(config)

    @property
    def encoder(self) -> nn.Module:
        """The Swin."""
        return self.model.model.pixel_level_module.encoder

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> MaskQueries | Float[Tensor, "B R H W"]:
        """Answer with queries in training, else with logits per pixel."""
        output = self.model(images, output_auxiliary_logits=self.training)
        classes, masks = output.class_queries_logits, output.masks_queries_logits
        if not self.training:
            return combine_queries(classes, masks, (images.shape[-2], images.shape[-1]))

        # In training every decoder output learns, the last one last
        earlier = output.auxiliary_logits
        return MaskQueries(
            [*(one["class_queries_logits"] for one in earlier), classes],
            [*(one["masks_queries_logits"] for one in earlier), masks],
        )


def check_settings(settings: Mapping[str, Any], config: type, what: str) -> None:
    """Raise ValueError for settings that a config of the library does not have."""
    unknown = sorted(set(settings) - set(inspect.signature(config).parameters))
    if unknown:
        raise ValueError(
            f"network.build.{what} has unknown {', '.join(unknown)}: see {config.__name__} of "
            "transformers"
        )


def combine_queries(
    classes: Float[Tensor, "B queries answers"],
    masks: Float[Tensor, "B queries h w"],
    size: Size,
) -> Float[Tensor, "B R H W"]:
    """Combine queries into logits of pixels, whose softmax is each class's share of the pixel.

    A class gets `Σ_q p_q(class) · m_q(pixel)`; logits are the logarithms of its shares. The masks
    are resized to the pixels first, as published, and not to 384 x 384 as the library would.
    """
    with torch.autocast(masks.device.type, enabled=False):
        # What each class gets of each pixel
        resized = F.interpolate(masks.float(), size=size, mode="bilinear", align_corners=False)
        known = classes.float().softmax(-1)[..., :-1]
        sums = torch.einsum("bqr,bqhw->brhw", known, resized.sigmoid()).clamp(min=EPSILON)

        # Shares sum to one
        return (sums / sums.sum(1, keepdim=True)).log()


def load_swin(network: Mask2FormerNetwork, repository: str, folder: str) -> None:
    """Give the Swin its ImageNet weights, fetched from `repository` to `folder` if need be.

    Raises:
        FileNotFoundError: naming address and place, when they cannot be fetched.
        ValueError: when they are those of another Swin.
    """
    try:
        fetch_swin(repository, Path(folder), count_bytes(network.encoder))
    except NotFetchedError:  # a plan goes on without
        return
    backbone, info = import_transformers().SwinBackbone.from_pretrained(
        folder, config=network.encoder.config, local_files_only=True, output_loading_info=True
    )

    # The norms of the feature maps are ours to learn, all else must be there
    norms = "hidden_states_norms"
    lost = [name for name in info["missing_keys"] if not name.startswith(norms)]
    if lost or info["mismatched_keys"]:
        raise ValueError(
            f"{folder} holds another Swin than network.build.swin says: "
            f"{[*lost, *info['mismatched_keys']][:5]}"
        )
    network.encoder.load_state_dict(backbone.state_dict())


def fetch_swin(repository: str, folder: Path, about: int) -> Path:
    """Return the weights file of a repository in `folder`, fetching the first that it has.

    about: how many bytes it has, about.
    """
    for path in (folder / file for file in WEIGHTS_FILES):
        if path.is_file():
            return path

    # The repository has one of them
    failures = []
    for file in WEIGHTS_FILES:
        try:
            address = f"{HUB}/{repository}/resolve/main/{file}"
            return fetch_file(folder / file, address, about=about)
        except FileNotFoundError as failure:
            failures.append(failure)
    raise failures[0]


def import_transformers() -> Any:
    """Import `transformers`, or say how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise ModuleNotFoundError(
            f'Mask2Former needs transformers ({error}): pip install -e ".[networks]"'
        ) from error
    return transformers
