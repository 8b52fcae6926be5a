"""Where learned contexts start from: normal noise, the words of a phrase, or a released file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.clip.encoder import FrozenClip
from fmawsss.files.released_contexts import load_released_context
from fmawsss.files.tensor_files import digest_weights


def named_seed(name: str) -> int:
    """Turn a name into a seed: SHA-1 of its UTF-8 bytes, modulo 2³² (METHOD 8).

    >>> named_seed("真")
    2763632353
    """
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**32


@dataclass(frozen=True)
class NormalContexts:
    """Draw `length` vectors per context from N(0, std²), with torch's CPU generator."""

    length: int
    std: float
    generator_seed: int

    def __post_init__(self) -> None:
        check_length(self.length)

    def __call__(self, clip: FrozenClip, count: int) -> Float[Tensor, "S K W"]:
        """Draw `count` contexts."""
        generator = torch.Generator().manual_seed(self.generator_seed)
        return torch.empty(count, self.length, clip.text_width).normal_(
            std=self.std, generator=generator
        )


@dataclass(frozen=True)
class ContextsFromWords:
    """Start every context from the token embeddings of a phrase, one vector per token."""

    phrase: str

    def __call__(self, clip: FrozenClip, count: int) -> Float[Tensor, "S K W"]:
        """Copy the embedded phrase `count` times."""
        return embed_phrase(clip, self.phrase).expand(count, -1, -1).clone()


@dataclass(frozen=True)
class TiledContexts:
    """Repeat the token embeddings of a phrase up to `length` vectors and add N(0, noise²)."""

    phrase: str
    length: int
    noise: float
    generator_seed: int

    def __post_init__(self) -> None:
        check_length(self.length)

    def __call__(self, clip: FrozenClip, count: int) -> Float[Tensor, "S K W"]:
        """Tile the embedded phrase for `count` contexts; each gets noise of its own."""
        words = embed_phrase(clip, self.phrase)
        tiled = words[torch.arange(self.length) % len(words)].expand(count, -1, -1)
        generator = torch.Generator().manual_seed(self.generator_seed)
        noise = torch.empty(tiled.shape).normal_(std=self.noise, generator=generator)
        return tiled + noise.to(tiled)


@dataclass(frozen=True)
class ReleasedContexts:
    """Start from the contexts of a released checkpoint."""

    path: str

    def __call__(self, clip: FrozenClip, count: int) -> Float[Tensor, "S K W"]:
        """Read `count` contexts; the file must hold as many, shared ones are not multiplied."""
        context = load_released_context(
            self.path, partial(digest_weights, nn.ModuleDict({"clip": clip}))
        )
        if context.shape[0] != count or context.shape[2] != clip.text_width:
            raise ValueError(
                f"{self.path} holds {context.shape[0]} contexts of width {context.shape[2]}, the "
                f"prompts need {count} of width {clip.text_width}: choose the `share` and the CLIP "
                "it was trained with"
            )
        return context


def check_length(length: int) -> None:
    """Raise ValueError for contexts without a vector."""
    if length < 1:
        raise ValueError(
            f"prompts.contexts.length={length}: expected at least one vector to learn, or choose "
            "prompts=handwritten"
        )


def embed_phrase(clip: FrozenClip, phrase: str) -> Float[Tensor, "K W"]:
    """Return the token embeddings of a phrase, underscores read as spaces.

    Raises:
        ValueError: when the phrase has no words.
    """
    ids = clip.tokenize([phrase.replace("_", " ")])
    end = int(clip.find_ends(ids))
    if end < 2:
        raise ValueError(
            f"the phrase {phrase!r} has no words; contexts need at least one: give a phrase"
        )
    device = clip.clip.token_embedding.weight.device
    return clip.embed_text(ids[:, 1:end].to(device))[0].detach().cpu()
