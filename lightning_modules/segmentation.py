"""Segmentation prompts: where is each class? (METHOD 3 and 4, CAM activation loss)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import Tensor

from fmawsss.cam import repeat_edges
from fmawsss.clip.encoder import ImageTokens
from fmawsss.records import Batch
from lightning_modules.prompts import PromptModule
from lightning_modules.sharing import share_count


class SegmentationModule(PromptModule):
    """Learn contexts from coarse seeds: high CAMs on the seed of a class, low ones elsewhere."""

    learned_by: ClassVar[tuple[str, ...]] = ("prompt training", "CAM activation loss", "CAM")

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Return the input of the last block, (B, L, D), and which patches are real, (B, N)."""
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks=0)
        return {"inputs": tokens.inputs, "valid": tokens.valid}

    def training_loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Compare the CAMs of the present classes with the seeds of their images."""
        # CAMs of the present classes
        height, width = batch.seeds.shape[1:]
        grid = height // self.clip.patch_size, width // self.clip.patch_size
        tokens = ImageTokens(**self.look(batch), grid=grid, attention=None)
        _, cams = self.compute_cams(tokens, self.prompts(), batch.labels, pairs=batch.pairs)

        # Their loss; beyond the edge of an image the CAM goes on as it ends
        images, classes = batch.pairs.images, batch.pairs.classes
        cams = repeat_edges(cams, tokens.valid[images])
        share = partial(share_count, self.trainer)
        losses = self.loss(cams, batch.seeds, images, classes, share=share)
        return {
            "loss": losses.total,
            "loss_foreground": losses.foreground,
            "loss_background": losses.background,
        }
