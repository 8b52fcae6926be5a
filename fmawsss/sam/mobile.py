"""MobileSAM: SAM's prompt encoder and mask decoder behind a small image encoder.

The encoder is TinyViT (arXiv:2207.10666), which timm has, with SAM's neck; its arrangement and the
weights are those of https://github.com/ChaoningZhang/MobileSAM (Apache-2.0, arXiv:2306.14289).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fmawsss.files.downloads import NotFetchedError, fetch_file
from fmawsss.sam.generator import fill_sam

CHECKPOINT = "mobile_sam.pt"
COMMIT = "f706ad9c4eb7f219c00d9050e46328518ffb65d2"
URL = f"https://github.com/ChaoningZhang/MobileSAM/raw/{COMMIT}/weights/{CHECKPOINT}"
DIGEST = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
BYTES = 40728226

SIDE, WIDTH, STRIDE = 1024, 256, 16  # pixels, of prompts and of the encoder's maps, pixels
TINY_VIT, TINY_WIDTH, TINY_CLASSES = "tiny_vit_5m_224", 320, 1000

# Parts of names in the published file, and what they are here, one after the other
RENAMED = {
    "image_encoder.patch_embed.seq.0.": "image_encoder.trunk.patch_embed.conv1.",
    "image_encoder.patch_embed.seq.2.": "image_encoder.trunk.patch_embed.conv2.",
    # timm counts a reduction to the stage behind it
    "image_encoder.layers.0.downsample.": "image_encoder.trunk.stages.1.downsample.",
    "image_encoder.layers.1.downsample.": "image_encoder.trunk.stages.2.downsample.",
    "image_encoder.layers.2.downsample.": "image_encoder.trunk.stages.3.downsample.",
    "image_encoder.layers.": "image_encoder.trunk.stages.",
    "image_encoder.norm_head.": "image_encoder.trunk.head.norm.",
    "image_encoder.head.": "image_encoder.trunk.head.fc.",
    ".c.weight": ".conv.weight",
}


class MobileEncoder(nn.Module):
    """TinyViT whose last stage keeps the resolution of the one before, and SAM's neck."""

    def __init__(self) -> None:
        super().__init__()
        from timm import create_model

        self.img_size = SIDE
        trunk: Any = create_model(TINY_VIT, num_classes=TINY_CLASSES)
        trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
        self.trunk: Any = trunk
        self.neck = nn.Sequential(
            nn.Conv2d(TINY_WIDTH, WIDTH, kernel_size=1, bias=False),
            LayerNorm2d(WIDTH),
            nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D h w"]:
        """Encode images that SAM has normalised and padded."""
        maps: Tensor = self.neck(self.trunk.forward_features(images))
        return maps


def load_mobile_sam(folder: str | Path) -> Sam:
    """Load MobileSAM, whose checkpoint lies in `folder` or is fetched.

    The encoder's classification head, which nothing uses, is part of the checkpoint.

    Raises:
        ModuleNotFoundError: without `timm`.
        FileNotFoundError: naming address and place, when it cannot be fetched.
        ValueError: for a checkpoint that does not fit.
    """
    try:
        sam = build_mobile_sam()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'MobileSAM needs timm ({error}): pip install -e ".[networks]"'
        ) from error
    try:
        path = fetch_file(Path(folder) / CHECKPOINT, URL, DIGEST, size=BYTES)
        fill_sam(sam, path, "mobile", rename)
    except NotFetchedError:  # a plan goes on without
        sam.eval()
    fuse_norms(sam.image_encoder.trunk)
    return sam


def build_mobile_sam() -> Sam:
    """Build MobileSAM with random weights."""
    cells = SIDE // STRIDE
    return Sam(
        MobileEncoder(),
        PromptEncoder(WIDTH, (cells, cells), (SIDE, SIDE), mask_in_chans=16),
        MaskDecoder(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=2048),
        ),
    ).eval()


def rename(name: str) -> str:
    """Translate the name of a published tensor to ours."""
    for published, ours in RENAMED.items():
        name = name.replace(published, ours)
    return name


def fuse_norms(trunk: Any) -> None:
    """Make each convolution of timm's TinyViT and the batch norm behind it one convolution.

    What the norms have seen in training is part of the weights then.
    """
    for parent in list(trunk.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "conv") and hasattr(child, "bn"):
                setattr(parent, name, fuse_conv_bn_eval(child.conv, child.bn))
