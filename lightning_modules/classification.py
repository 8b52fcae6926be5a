"""Classification prompts: which classes does an image show? (METHOD 2 and 4, contrastive loss)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from torch import Tensor

from fmawsss.cam import compute_logits
from fmawsss.records import Batch
from lightning_modules.prompts import PromptModule
from lightning_modules.sharing import share_count


class ClassificationModule(PromptModule):
    """Learn contexts from image labels by the multi-label contrastive loss; no CAM is computed."""

    learned_by: ClassVar[tuple[str, ...]] = ("prompt training",)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Return the image features, (B, E)."""
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks=0)
        return {"features": self.clip.pool_images(tokens)}

    def training_loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Compare images with prompts; background prompts take no part."""
        features = self.look(batch)["features"]
        logits = compute_logits(features, self.prompts(), self.clip.logit_scale.exp())
        share = partial(share_count, self.trainer)
        return {"loss": self.loss(logits[:, : len(self.classes)], batch.labels, share=share)}
