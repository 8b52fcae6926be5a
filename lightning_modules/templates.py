"""How sharply hand-written templates tell the present classes of an image apart (CLIP-ES): nothing
is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.cam import compute_logits
from fmawsss.clip.encoder import FrozenClip
from fmawsss.records import Batch


@dataclass(frozen=True)
class TemplateAnswer:
    """The logits of the classes present in one image, a row per template."""

    name: str
    logits: Float[Tensor, "S P"]

    def masks(self) -> dict[str, Tensor]:
        """There is no mask to score."""
        return {}


class TemplateModule(L.LightningModule):
    """Compare each image with its own classes, written into each of the templates."""

    text_features: Float[Tensor, "S C E"]

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Callable[..., nn.Module],
        classes: Sequence[str],
        templates: Sequence[str],
    ) -> None:
        super().__init__()
        self.clip = clip
        self.classes = tuple(classes)
        features = [
            prompts(clip=clip, names=classes, background=(), templates=[text])()
            for text in templates
        ]
        self.register_buffer("text_features", torch.stack(features), persistent=False)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[TemplateAnswer]:
        """Return the logits of the present classes of each image of the batch."""
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks=0)
        features, scale = self.clip.pool_images(tokens), self.clip.logit_scale.exp()
        logits = torch.stack(
            [compute_logits(features, texts, scale) for texts in self.text_features], dim=1
        )
        found = zip(batch.names, logits, batch.labels, strict=True)
        return [TemplateAnswer(name, rows[:, present]) for name, rows, present in found]
