"""The segmentation networks: images in, class logits per pixel out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fmawsss.clip.blocks import check_block, run_block

FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# On the CPU the fused attention's backward is slower than plain matrix products, by a third of a
# whole training step
TRAINING = {"cpu": [SDPBackend.MATH], "cuda": FUSED}


def _convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution, group normalisation (batches are small) and GELU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, outputs),
        nn.GELU(),
    )


class TowerNetwork(nn.Module):
    """A CLIP image tower, fine-tuned, below a convolutional decoder.

    The tower says *what*, a convolutional stem at half and quarter resolution says *where*: it
    restores the detail that patches lose. Logits come at the size of the images; inside, sides are
    stretched to the next multiple of the patch size.
    """

    def __init__(self, clip: CLIP, classes: int, width: int) -> None:
        super().__init__()
        self.tower = clip.visual.requires_grad_(True).train()
        for block in self.tower.transformer.resblocks:
            check_block(block)
        self.tower.proj = None  # pixels are not compared with texts

        # The stem goes down, the decoder up again
        self.stem = nn.ModuleList([_convolve(3, width // 2, 2), _convolve(width // 2, width, 2)])
        self.reduce = nn.Conv2d(self.tower.conv1.out_channels, width, 1)
        self.merge = nn.ModuleList(
            [_convolve(2 * width, width), _convolve(width + width // 2, width)]
        )
        self.classify = nn.Conv2d(width, classes, 1)

    @property
    def encoder(self) -> nn.Module:
        """The tower."""
        return self.tower

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R H W"]:
        """Compute the logits of R classes, background first."""
        # Details at half and quarter resolution
        size, patch = images.shape[-2:], self.tower.patch_size
        aligned = [(side + edge - 1) // edge * edge for side, edge in zip(size, patch, strict=True)]
        images = F.interpolate(images, size=aligned, mode="bilinear", align_corners=False)
        details = []
        features = images
        for layer in self.stem:
            features = layer(features)
            details.append(features)

        # From the patch grid up, each step beside the stem's features of that resolution
        features = self.reduce(self._embed_patches(images))
        for layer, detail in zip(self.merge, reversed(details), strict=True):
            features = F.interpolate(
                features, size=detail.shape[-2:], mode="bilinear", align_corners=False
            )
            features = layer(torch.cat([features, detail], dim=1))
        return F.interpolate(
            self.classify(features), size=size, mode="bilinear", align_corners=False
        )

    def _embed_patches(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Run the tower on images of any size, its position embedding resized to their grid."""
        # Patches, each with the position embedding of its place
        tower = self.tower
        patches = tower.conv1(images)
        height, width = patches.shape[-2:]
        class_position, positions = tower.positional_embedding[:1], tower.positional_embedding[1:]
        grid = positions.T.unflatten(1, tower.grid_size)[None]
        resized = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
        patches = (patches + resized).flatten(2).transpose(1, 2)

        # Beside the class token, which stands first
        first = (tower.class_embedding + class_position).expand(images.shape[0], 1, -1)
        tokens = tower.ln_pre(torch.cat([first.to(patches.dtype), patches], dim=1))

        # Block by block: applied, the library's own would hold the attention of all tokens to all
        with sdpa_kernel(TRAINING[images.device.type] if self.training else FUSED):
            for block in tower.transformer.resblocks:
                tokens = run_block(block, tokens, None)
        return tower.ln_post(tokens)[:, 1:].transpose(1, 2).unflatten(2, (height, width))
