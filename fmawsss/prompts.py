"""Prompts around class names: with learned contexts (CoOp), or hand-written (METHOD 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fmawsss.clip.encoder import FrozenClip
from fmawsss.clip.packing import Packing
from fmawsss.clip.prefixes import FrozenPrefixes

PLACEHOLDER = "X"  # one token; a context vector takes its place


def name_at_end(length: int) -> int:
    """Put all `length` context vectors before the name; return how many stand before it."""
    return length


def name_in_middle(length: int) -> int:
    """Put half of the context vectors before the name, the odd one behind it."""
    return length // 2


def name_at_front(length: int) -> int:
    """Put the name before all context vectors."""
    return 0


def share_contexts(prompts: int) -> list[int]:
    """Give all prompts the same context; return the context of each prompt."""
    return [0] * prompts


def context_per_class(prompts: int) -> list[int]:
    """Give every prompt a context of its own."""
    return list(range(prompts))


@dataclass(frozen=True)
class GroupedContexts:
    """Share contexts within groups: `groups` holds the context of each prompt, background last."""

    groups: Sequence[int]

    def __call__(self, prompts: int) -> list[int]:
        """Return the context of each prompt."""
        if len(self.groups) != prompts or min(self.groups) < 0:
            raise ValueError(
                f"{len(self.groups)} groups for {prompts} prompts: name one context, from 0, for "
                "each prompt"
            )
        return list(self.groups)


class LearnedPrompts(nn.Module):
    """Write `[SOS] v_1 … v_K name . [EOS]` with learned vectors v, for names, then background.

    `contexts` initialises the vectors, `place_name` says how many of them stand before the name,
    `share` which prompts have the same ones. `context` is the only parameter and the only thing in
    the state dict.
    """

    learns = True
    clip: FrozenClip
    words: Tensor  # Float (T, L, W): embedded prompts without the context
    vectors: Tensor  # Int (T, L): which of all context vectors stands where, -1 for none
    eos: Tensor  # Int (T)

    def __init__(
        self,
        clip: FrozenClip,
        names: Sequence[str],
        background: Sequence[str],
        contexts: Callable[[FrozenClip, int], Tensor],
        place_name: Callable[[int], int],
        share: Callable[[int], list[int]],
    ) -> None:
        super().__init__()
        # the clip belongs to whoever passed it: registered here, it would be saved with the prompts
        object.__setattr__(self, "clip", clip)
        texts = [*names, *background]

        # the learned vectors
        groups = torch.tensor(share(len(texts)))
        device = clip.clip.token_embedding.weight.device
        self.context = nn.Parameter(contexts(clip, int(groups.max()) + 1).to(device))
        length = self.context.shape[1]

        # the words around them
        ids, eos, vectors = lay_out_prompts(clip, texts, length, place_name(length))
        self.register_buffer("words", clip.embed_text(ids.to(device)).detach(), persistent=False)
        learned = torch.where(vectors < 0, -1, vectors + length * groups[:, None])
        self.register_buffer("vectors", learned, persistent=False)
        self.register_buffer("eos", eos, persistent=False)

        # what prompts have in common, or what is frozen in front of each, is encoded once
        shared = 1 + place_name(length) if self.context.shape[0] == 1 else 1
        self.packing = Packing(eos, ids.shape[1], shared) if shared > 1 else None
        frozen = (vectors >= 0).int().argmax(dim=1)
        self.prefixes = FrozenPrefixes(clip.clip, self.words, eos, frozen) if shared == 1 else None
        self.to(device)

    def embed(self) -> Float[Tensor, "T L W"]:
        """Return the embedded prompts, cut behind the longest."""
        flat = self.context.flatten(0, 1)
        learned = F.embedding(self.vectors.clamp_min(0), flat)
        return torch.where((self.vectors >= 0)[..., None], learned, self.words.to(flat.dtype))

    def forward(self) -> Float[Tensor, "T E"]:
        """Return the text features, not normalised."""
        if self.prefixes is not None:
            return self.clip.encode_behind(self.embed(), self.prefixes)
        assert self.packing is not None
        return self.clip.encode_packed_prompts(self.embed(), self.packing)


class LearnedForeground(LearnedPrompts):
    """Learn contexts for the names alone; background prompts are written in fixed templates."""

    def __init__(
        self,
        clip: FrozenClip,
        names: Sequence[str],
        background: Sequence[str],
        contexts: Callable[[FrozenClip, int], Tensor],
        place_name: Callable[[int], int],
        share: Callable[[int], list[int]],
        background_templates: Sequence[str],
    ) -> None:
        super().__init__(clip, names, (), contexts, place_name, share)
        self.fixed: Tensor
        fixed = HandwrittenPrompts(clip, background, (), background_templates)()
        self.register_buffer("fixed", fixed, persistent=False)

    def forward(self) -> Float[Tensor, "T E"]:
        """Return the text features: learned ones, then fixed ones."""
        learned = super().forward()
        return torch.cat([learned, self.fixed.to(learned.dtype)])


class HandwrittenPrompts(nn.Module):
    """Write each name into every template (`{}`) and average the unit features, as in CLIP-ES."""

    learns = False
    clip: FrozenClip

    def __init__(
        self,
        clip: FrozenClip,
        names: Sequence[str],
        background: Sequence[str],
        templates: Sequence[str],
    ) -> None:
        super().__init__()
        object.__setattr__(self, "clip", clip)
        self.texts = [*names, *background]
        self.templates = list(templates)
        if not self.templates or any("{}" not in template for template in self.templates):
            raise ValueError(
                f"every template needs {{}} where the name goes, found {self.templates}"
            )

    def split_name(self, name: str) -> list[str]:
        """Return the words that stand for a class: its name as it is written."""
        return [name]

    @torch.no_grad()
    def forward(self) -> Float[Tensor, "T E"]:
        """Return the text features; the prompts of one class share a row."""
        # every word, and the class that it stands for
        synonyms = [self.split_name(text) for text in self.texts]
        words = [word.replace("_", " ") for group in synonyms for word in group]
        rows = torch.cat([torch.full((len(group),), row) for row, group in enumerate(synonyms)])
        if not words:
            return self.clip.clip.visual.proj.new_zeros(0, self.clip.embed_dim)

        # the mean over the templates, then the sum over the words of a class
        encoded = [self._encode(words, template) for template in self.templates]
        features = torch.stack(encoded).mean(dim=0)
        rows = rows.to(features.device)
        return features.new_zeros(len(self.texts), features.shape[1]).index_add(0, rows, features)

    def _encode(self, words: list[str], template: str) -> Float[Tensor, "T E"]:
        ids = tokenize_prompts(self.clip, [template.replace("{}", word) for word in words])
        eos = self.clip.find_ends(ids)
        device = self.clip.clip.token_embedding.weight.device
        ids, eos = ids[:, : int(eos.max()) + 1].to(device), eos.to(device)
        return F.normalize(self.clip.encode_prompts(self.clip.embed_text(ids), eos), dim=-1)


class SynonymPrompts(HandwrittenPrompts):
    """Read a comma in a class name as `or`: each synonym is a prompt, their sum the class."""

    def split_name(self, name: str) -> list[str]:
        """Return the synonyms of a class."""
        return [part.strip() for part in name.split(",") if part.strip()] or [name]


def lay_out_prompts(
    clip: FrozenClip, names: Sequence[str], length: int, before: int
) -> tuple[Int[Tensor, "T L"], Int[Tensor, "T"], Int[Tensor, "T L"]]:
    """Place `length` context vectors around each name, `before` of them in front of it.

    Returns the token ids, where each prompt ends, and which context vector stands at each position
    (-1: none). L is the longest prompt.
    """
    names = [name.replace("_", " ") for name in names]
    ids = tokenize_prompts(clip, [f"{(PLACEHOLDER + ' ') * length}{name}." for name in names])
    eos, sizes = clip.find_ends(ids), clip.find_ends(clip.tokenize(names)) - 1
    ids = ids[:, : int(eos.max()) + 1]
    steps = torch.arange(ids.shape[1]).expand_as(ids)

    # the tokenizer saw all vectors in front: those behind the name change places with it
    first, behind = 1 + before, length - before
    name = (steps >= first) & (steps < first + sizes[:, None])
    after = (steps >= first + sizes[:, None]) & (steps < first + sizes[:, None] + behind)
    vectors = torch.where((steps >= 1) & (steps < first), steps - 1, -1)
    vectors = torch.where(after, steps - 1 - sizes[:, None], vectors)
    return ids.gather(1, torch.where(name, steps + behind, steps)), eos, vectors


def tokenize_prompts(clip: FrozenClip, texts: list[str]) -> Int[Tensor, "T L"]:
    """Tokenize whole prompts.

    Raises:
        ValueError: when one does not fit the text encoder (the tokenizer would cut it).
    """
    ids = clip.tokenize(texts)
    # a prompt that fills all places has lost its end
    for text, end in zip(texts, clip.find_ends(ids).tolist(), strict=True):
        if end >= clip.text_length - 1:
            raise ValueError(
                f"the prompt {text!r} has {clip.text_length} tokens or more, the text encoder "
                "reads fewer: shorten the name or the context"
            )
    return ids
