"""What the keys of a region memory are made of: CLIP, another encoder, both (METHOD 11.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.dino.encoder import PatchEncoder
from fmawsss.networks.refinement import require_image

# A module that describes the N patches of one image, whose tokens it is given: (N, D)
DescribePatches: TypeAlias = Callable[[FrozenClip, ImageTokens, Tensor | None], Tensor]


class ClipPatches(nn.Module):
    """Describe patches by what CLIP makes of them: `read_activations` or `project_patches`."""

    def __init__(self, read: Callable[[FrozenClip, ImageTokens], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(
        self, clip: FrozenClip, tokens: ImageTokens, image: UInt8[Tensor, "H W 3"] | None
    ) -> Float[Tensor, "N D"]:
        """Describe the patches of one image that are no padding."""
        return self.read(clip, tokens)[0][tokens.valid[0]]


class EncoderPatches(nn.Module):
    """Describe patches by what an encoder beside CLIP makes of the image."""

    def __init__(self, encoder: PatchEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, clip: FrozenClip, tokens: ImageTokens, image: UInt8[Tensor, "H W 3"] | None
    ) -> Float[Tensor, "N D"]:
        """Describe the patches of one image.

        Raises:
            ValueError: without the image.
        """
        (grid,) = tokens.measure_grids()
        seen = require_image(image).to(tokens.inputs.device)
        return self.encoder.encode([seen], grid, attention_blocks=0).features[0]


def read_activations(clip: FrozenClip, tokens: ImageTokens) -> Float[Tensor, "B N D"]:
    """Read the activations that CAMs are made of: computed anyway."""
    return clip.read_activations(tokens)


def project_patches(clip: FrozenClip, tokens: ImageTokens) -> Float[Tensor, "B N E"]:
    """Project the patches: one more pass through the last block."""
    return clip.project_tokens(tokens)[:, 1:]


ACTIVATIONS = ClipPatches(read_activations)
