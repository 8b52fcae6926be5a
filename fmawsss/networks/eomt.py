"""EoMT (Kerssies et al., CVPR 2025) on DINOv3: a plain ViT whose last blocks hold the queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fmawsss.files.downloads import HUB, NotFetchedError, fetch_file
from fmawsss.files.tensor_files import MODEL, describe_fault
from fmawsss.networks.library import count_bytes
from fmawsss.networks.mask2former import (
    MaskQueries,
    check_settings,
    combine_queries,
    import_transformers,
)


class EomtNetwork(nn.Module):
    """EoMT on a DINOv3 ViT, with random weights, for images of any size.

    In training it answers `MaskQueries`, of each block that holds queries and of the end; applied
    it answers logits per pixel. Sides are stretched to the next multiple of the patch size.
    Attention of queries is not masked: the state in which the published training, which masks ever
    less, ends.

    eomt: settings of the library's `EomtDinov3Config`.
    """

    def __init__(self, eomt: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        transformers = import_transformers()
        if not hasattr(transformers, "EomtDinov3Config"):
            raise ModuleNotFoundError(
                f"EoMT on DINOv3 needs transformers 5.1, found {transformers.__version__}: "
                'pip install -e ".[networks]"'
            )
        check_settings(eomt, transformers.EomtDinov3Config, "eomt")
        forget_places()
        config = transformers.EomtDinov3Config(**eomt, num_labels=classes)
        self.model = record_predictions(transformers.EomtDinov3ForUniversalSegmentation)(config)
        self.model.attn_mask_probs.zero_()
        self.patch = int(config.patch_size)

    @property
    def encoder(self) -> nn.Module:
        """The ViT: patches, blocks and the last norm."""
        parts = {name: self.model.get_submodule(name) for name in ("embeddings", "layers")}
        return nn.ModuleDict({**parts, "layernorm": self.model.layernorm})

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> MaskQueries | Float[Tensor, "B R H W"]:
        """Answer with queries in training, else with logits per pixel."""
        # whole patches
        height, width = images.shape[-2:]
        grid = (-(-height // self.patch), -(-width // self.patch))
        size = (grid[0] * self.patch, grid[1] * self.patch)
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)

        # every prediction of masks and classes, the last one last
        self.model.grid_size, self.model.predictions = grid, []
        self.model(images)
        predictions, self.model.predictions = self.model.predictions, []
        if self.training:
            masks, classes = zip(*predictions, strict=True)
            return MaskQueries(list(classes), list(masks))
        masks, classes = predictions[-1]
        return combine_queries(classes, masks, (height, width))


def forget_places() -> None:
    """Have the library compute the places of patches anew for each pass.

    It keeps the tensors of the first pass, which may be one without content: an estimate of memory,
    an export. The next training would then learn from these.
    """
    from transformers.models.eomt_dinov3 import modeling_eomt_dinov3 as library

    cached = library.get_patches_center_coordinates
    library.get_patches_center_coordinates = getattr(cached, "__wrapped__", cached)


def record_predictions(library: type) -> type:
    """Make a class of the library keep what each block predicts, which it would not hand on."""

    class Recorded(library):
        predictions: list[tuple[Tensor, Tensor]]

        def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
            masks, classes = super().predict(logits)
            self.predictions.append((masks, classes))
            return masks, classes

    return Recorded


def load_dinov3(network: EomtNetwork, repository: str, folder: str) -> None:
    """Give the ViT the weights of DINOv3, fetched from `repository` to `folder` if need be.

    Raises:
        FileNotFoundError: naming address, place and licence, when they cannot be fetched.
        ValueError: when the file is broken, or of another DINOv3.
    """
    path = Path(folder) / MODEL
    address = f"{HUB}/{repository}/resolve/main/{MODEL}"
    try:
        fetch_file(path, address, about=count_bytes(network.encoder))
    except NotFetchedError:  # a plan goes on without
        return
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; the hub hands DINOv3 out to accounts that accepted its licence: "
            f"{HUB}/{repository}; network.weights=null starts at random"
        ) from error

    # the same parts have other names there; what stands for masked patches is not needed
    try:
        state = {rename(name): value for name, value in load_file(path).items()}
        state.pop("embeddings.mask_token", None)
        network.encoder.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{path} holds no whole weights of the DINOv3 that network.build.eomt says "
            f"({describe_fault(error)}): delete it to fetch it again, or choose its settings"
        ) from None


def rename(name: str) -> str:
    """Turn the name of a parameter of DINOv3 into that of the library's EoMT.

    >>> rename("layer.3.norm1.weight"), rename("norm.bias"), rename("embeddings.cls_token")
    ('layers.3.norm1.weight', 'layernorm.bias', 'embeddings.cls_token')
    """
    for old, new in (("model.", ""), ("layer.", "layers."), ("norm.", "layernorm.")):
        if name.startswith(old):
            name = new + name.removeprefix(old)
    return name
