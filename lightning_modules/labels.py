"""Labels for images that have none: CLIP compares each image with the names of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.records import Batch, LabelProposal


class LabelModule(L.LightningModule):
    """Propose the classes that are more probable than `threshold`, at most `top_k` of them.

    `classes` are the labels, `prompt_names` what CLIP reads of the same classes. `pool` makes the
    feature of an image. The probability of a class is its softmax against all background prompts,
    without the other classes, so that several can be probable at once.

    Raises:
        ValueError: without classes or background prompts, for names that no table of labels holds.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("label proposals",)
    text_features: Tensor

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Callable[..., nn.Module],
        classes: Sequence[str],
        prompt_names: Sequence[str],
        background: Sequence[str],
        pool: Callable[[FrozenClip, ImageTokens], Tensor],
        threshold: float,
        top_k: int,
    ) -> None:
        super().__init__()
        if not classes or not background:
            raise ValueError(
                "there is nothing to choose from: set dataset.classes=[cat,dog,…] and "
                "background=[sky,…]"
            )
        strange = [name for name in classes if ";" in name or name != name.strip()]
        if strange:
            raise ValueError(
                f"class {strange[0]!r}: labels stand between semicolons in a table; take them out "
                "of dataset.classes, and spaces around it"
            )
        self.clip = clip
        self.classes = tuple(classes)
        self.pool = pool
        self.threshold = threshold
        self.top_k = top_k
        features = prompts(clip=clip, names=prompt_names, background=background)()
        self.register_buffer("text_features", F.normalize(features, dim=-1), persistent=False)

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[LabelProposal]:
        """Propose labels for each image of the batch."""
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks=0)
        features = F.normalize(self.pool(self.clip, tokens), dim=-1)
        logits = self.clip.logit_scale.exp() * features @ self.text_features.T
        rows = list(zip(batch.names, oppose_background(logits, len(self.classes)), strict=True))
        broken = [name for name, probabilities in rows if not probabilities.isfinite().all()]
        if broken:
            raise ValueError(
                f"the scores of {broken[0]} are no numbers (NaN or infinity): the weights of CLIP "
                "are broken, or precision is too low; set precision=32-true"
            )
        return [LabelProposal(name, self._choose(probabilities)) for name, probabilities in rows]

    def _choose(self, probabilities: Float[Tensor, "C"]) -> dict[str, float]:
        values, order = probabilities.topk(min(self.top_k, len(self.classes)))
        chosen = zip(order.tolist(), values.tolist(), strict=True)
        return {self.classes[index]: value for index, value in chosen if value > self.threshold}


def oppose_background(logits: Float[Tensor, "B T"], classes: int) -> Float[Tensor, "B C"]:
    """Return for each class the softmax over itself and all background prompts."""
    foreground, background = logits[:, :classes], logits[:, classes:]
    return torch.sigmoid(foreground - background.logsumexp(dim=1, keepdim=True))


def read_class_token(clip: FrozenClip, tokens: ImageTokens) -> Float[Tensor, "B E"]:
    """Take the class token, which CLIP was trained to compare with text."""
    return clip.project_tokens(tokens)[:, 0]


def average_patches(clip: FrozenClip, tokens: ImageTokens) -> Float[Tensor, "B E"]:
    """Take the mean of the patches (METHOD 2)."""
    return clip.pool_images(tokens)
