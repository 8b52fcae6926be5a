"""Mask2Former (Cheng et al., CVPR 2022) of the library `transformers`: queries that answer with a
class and a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.files.downloads import fetch_file

HUB = "https://huggingface.co"
FILES = ("model.safetensors", "pytorch_model.bin")  # a repository holds one of them at least
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SURE_ENOUGH = 1e-12  # below it a score counts as this much, so that its logarithm is finite


@dataclass(frozen=True)
class MaskQueries:
    """What each of L decoder outputs, the last one last, says for Q queries: a class or none, and a
    mask.
    """

    classes: list[Float[Tensor, "B queries answers"]]  # logits of R classes, "no object" last
    masks: list[Float[Tensor, "B queries h w"]]  # logits


class Mask2FormerNetwork(nn.Module):
    """Mask2Former on a Swin; trained it answers `MaskQueries`, applied it answers logits per pixel."""

    def __init__(self, swin: Mapping[str, Any], decoder: Mapping[str, Any], classes: int) -> None:
        """Build it with random weights; `swin` are settings of `SwinConfig`, `decoder` of
        `Mask2FormerConfig`.
        """
        super().__init__()
        transformers = import_transformers()
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
        """Answer with queries in training, else with the logarithm of the normalised semantic
        scores.
        """
        output = self.model(images, output_auxiliary_logits=self.training)
        if not self.training:
            return score_classes(
                output.class_queries_logits,
                output.masks_queries_logits,
                (images.shape[-2], images.shape[-1]),
            )
        earlier = output.auxiliary_logits
        return MaskQueries(
            [*(one["class_queries_logits"] for one in earlier), output.class_queries_logits],
            [*(one["masks_queries_logits"] for one in earlier), output.masks_queries_logits],
        )


def score_classes(
    classes: Float[Tensor, "B queries answers"],
    masks: Float[Tensor, "B queries h w"],
    size: tuple[int, int],
) -> Float[Tensor, "B R H W"]:
    """Score classes per pixel, `Σ_q p_q(class) · m_q(pixel)` at `size`, and return the logarithm of
    their shares.

    The mask logits are resized to the pixels first, as published, and not to 384 x 384 as the
    library would.
    """
    with torch.autocast(masks.device.type, enabled=False):
        resized = F.interpolate(masks.float(), size=size, mode="bilinear", align_corners=False)
        scores = torch.einsum(
            "bqr,bqhw->brhw", classes.float().softmax(-1)[..., :-1], resized.sigmoid()
        )
        scores = scores.clamp(min=SURE_ENOUGH)
        return (scores / scores.sum(1, keepdim=True)).log()


def load_swin(network: Mask2FormerNetwork, repository: str, folder: str) -> None:
    """Give the backbone the ImageNet weights of a `repository`, fetched to `folder` when they are
    missing.

    Raises FileNotFoundError naming address and place when they cannot be fetched, ValueError when
    they do not fit.
    """
    fetch_swin(repository, Path(folder))
    backbone, info = import_transformers().SwinBackbone.from_pretrained(
        folder, config=network.encoder.config, local_files_only=True, output_loading_info=True
    )
    lost = [
        name for name in info["missing_keys"] if not name.startswith("hidden_states_norms")
    ]  # ours to learn
    if lost or info["mismatched_keys"]:
        raise ValueError(
            f"{folder} holds another Swin than network.build.swin says: "
            f"{[*lost, *info['mismatched_keys']][:5]}"
        )
    network.encoder.load_state_dict(backbone.state_dict())


def fetch_swin(repository: str, folder: Path) -> Path:
    """Return the weights file of a repository in `folder`, fetching the first that it has."""
    failures = []
    for path in (folder / file for file in FILES):
        if path.is_file():
            return path
    for file in FILES:
        try:
            return fetch_file(folder / file, f"{HUB}/{repository}/resolve/main/{file}")
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
