"""A CLIP for images of one size: its position embeddings stay as they were trained."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from fmawsss.clip.encoder import FrozenClip


class FixedPositionClip(FrozenClip):
    """A CLIP whose position embeddings stay as they were trained; other grids are refused."""

    def place_positions(
        self, grid: tuple[int, int], valid: Bool[Tensor, "B N"] | None
    ) -> Float[Tensor, "#B L D"]:
        """Return the position embedding as it is.

        Raises:
            ValueError: when the grid is not the one of the pretraining.
        """
        native = tuple(self.clip.visual.grid_size)
        if grid != native:
            raise ValueError(
                f"the patch grid is {grid}, fixed positions need {native}: use "
                "fmawsss.clip.encoder.FrozenClip"
            )
        return self.clip.visual.positional_embedding[None]
