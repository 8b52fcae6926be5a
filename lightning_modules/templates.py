"""How sharply hand-written templates tell the present classes of an image apart (CLIP-ES)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.cam import compute_logits
from fmawsss.clip.encoder import FrozenClip
from fmawsss.records import Batch, TemplateAnswer


class TemplateModule(L.LightningModule):
    """Compare each image with its own classes, written into each of the templates.

    classes: names in tables and files. prompt_names: names of the same classes in the templates.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("template ranking",)
    text_features: Float[Tensor, "S C E"]

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Callable[..., nn.Module],
        classes: Sequence[str],
        prompt_names: Sequence[str],
        templates: Sequence[str],
    ) -> None:
        super().__init__()
        self.clip = clip
        self.classes = tuple(classes)
        features = [
            prompts(clip=clip, names=prompt_names, background=(), templates=[text])()
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
