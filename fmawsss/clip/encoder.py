"""The frozen CLIP of any open_clip ViT: images of any size to tokens, prompts to features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from open_clip.model import CLIP
from torch import Tensor, nn

from fmawsss.clip.architecture import check_clip
from fmawsss.clip.blocks import (
    attend,
    attend_openly,
    average_heads,
    project_heads,
    run_block,
    show_keys,
    transform,
)
from fmawsss.clip.last_block import LastBlock, open_last_block
from fmawsss.clip.packing import Packing
from fmawsss.clip.positions import resize_positions
from fmawsss.clip.prefixes import FrozenPrefixes
from fmawsss.precision import multiply


@dataclass(frozen=True)
class ImageTokens:
    """What the frozen part of the image encoder makes of a batch; nothing here carries a graph."""

    # input of the last block: the class token, then the patches (L = 1 + N)
    inputs: Float[Tensor, "B L D"]
    valid: Bool[Tensor, "B N"]  # patches that are not wholly padding
    grid: tuple[int, int]  # (h, w)
    # mean over heads and over the last blocks, without the class token
    attention: Float[Tensor, "B N N"] | None

    def take(self, images: Int[Tensor, "P"]) -> ImageTokens:
        """Copy the tokens of some images, without their attention."""
        return ImageTokens(self.inputs[images], self.valid[images], self.grid, attention=None)

    def measure_grids(self) -> list[tuple[int, int]]:
        """Measure the grid of each image without its padding."""
        valid = self.valid.unflatten(1, self.grid)
        sizes = torch.stack([valid.any(dim=2).sum(dim=1), valid.any(dim=1).sum(dim=1)], dim=1)
        return [(rows, columns) for rows, columns in sizes.tolist()]


class FrozenClip(nn.Module):
    """An open_clip ViT CLIP, frozen, whose image feature is the mean of the patches (METHOD 2).

    `tokenize` turns a list of strings into token ids (T, L); `patch_size` must be the model's.

    Raises:
        ValueError: for an architecture that the method does not describe.
    """

    def __init__(
        self,
        clip: nn.Module,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        tokenize: Callable[[list[str]], Tensor],
        patch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_clip(clip)
        self.clip = cast(CLIP, clip.eval().requires_grad_(False))
        self.tokenize = tokenize
        self.image_mean = tuple(float(value) for value in image_mean)
        self.image_std = tuple(float(value) for value in image_std)
        self.patch_size = int(self.clip.visual.patch_size[0])
        if patch_size not in (None, self.patch_size):
            raise ValueError(
                f"the patches of this CLIP are {self.patch_size} wide, not {patch_size}: "
                f"set clip.patch_size={self.patch_size}"
            )
        self.width = int(self.clip.visual.conv1.out_channels)
        self.embed_dim = int(self.clip.visual.proj.shape[1])
        self.text_width = int(self.clip.token_embedding.weight.shape[1])
        self.text_length = int(self.clip.positional_embedding.shape[0])

    def train(self, mode: bool = True) -> FrozenClip:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """Logarithm of the factor between cosines and logits."""
        return self.clip.logit_scale.reshape(())

    @torch.no_grad()
    def encode_images(
        self,
        images: Float[Tensor, "B 3 H W"],
        padding: Bool[Tensor, "B H W"] | None,
        attention_blocks: int,
    ) -> ImageTokens:
        """Run all blocks before the last; `padding` is true where a pixel is not part of its image.

        `attention` averages the last `attention_blocks` blocks, the very last included (all when
        there are fewer; 0 gives None); its columns of padded patches are zero, their rows mean
        nothing.

        Raises:
            ValueError: when a side is no multiple of the patch size.
        """
        # patches, and which of them belong to an image
        grid = self._measure_grid(images)
        valid = None if padding is None else self._find_valid(padding)
        visible = None if valid is None else show_keys(valid)
        tokens = self._embed_patches(images, grid, valid)

        # all blocks but the last
        tokens, attention = self._run_first_blocks(tokens, visible, attention_blocks)
        if valid is None:
            patches = grid[0] * grid[1]
            valid = torch.ones(len(images), patches, dtype=torch.bool, device=images.device)
        return ImageTokens(tokens, valid, grid, attention)

    def read_activations(self, tokens: ImageTokens) -> Float[Tensor, "B N D"]:
        """Return the patches after ln_1 of the last block: what a CAM is made of (METHOD 3)."""
        return self.clip.visual.transformer.resblocks[-1].ln_1(tokens.inputs)[:, 1:]

    def pool_images(
        self, tokens: ImageTokens, activations: Float[Tensor, "B N D"] | None = None
    ) -> Float[Tensor, "B E"]:
        """Run the last block, average the valid patches and project.

        A graph runs through `activations`, the patches after ln_1, when they are given.
        """
        patches = self._run_last_block(tokens, activations)[:, 1:]
        valid = tokens.valid[..., None].to(patches.dtype)
        return multiply(
            (patches * valid).sum(dim=1) / valid.sum(dim=1).clamp_min(1), self.clip.visual.proj
        )

    def project_tokens(self, tokens: ImageTokens) -> Float[Tensor, "B L E"]:
        """Run the last block and project every token, the class token first."""
        return multiply(self._run_last_block(tokens, None), self.clip.visual.proj)

    def open_last_block(self, tokens: ImageTokens) -> LastBlock:
        """Run the last block so that its derivatives can be taken without a graph."""
        return open_last_block(self.clip.visual, tokens.inputs, tokens.valid)

    def embed_text(self, ids: Int[Tensor, "T L"]) -> Float[Tensor, "T L W"]:
        """Look up the token embeddings."""
        return self.clip.token_embedding(ids)

    def find_ends(self, ids: Int[Tensor, "T L"]) -> Int[Tensor, "T"]:
        """Return the position of EOS, where the text feature is read."""
        if self.clip.text_pool_type == "eos":
            return (ids == self.clip.text_eos_id).int().argmax(dim=1)
        return ids.argmax(dim=1)

    def encode_prompts(
        self, prompts: Float[Tensor, "T L W"], eos: Int[Tensor, "T"]
    ) -> Float[Tensor, "T E"]:
        """Encode embedded prompts, of any length L that holds the longest; not normalised."""
        count, length, _ = prompts.shape
        tokens = prompts + self.clip.positional_embedding[:length]
        visible = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()
        return self._encode_text(
            tokens, visible, torch.arange(count, device=eos.device) * length + eos
        )

    def encode_packed_prompts(
        self, prompts: Float[Tensor, "T L W"], packing: Packing
    ) -> Float[Tensor, "T E"]:
        """Encode embedded prompts that begin alike; the same result as `encode_prompts`, sooner."""
        tokens = prompts.flatten(0, 1).index_select(0, packing.tokens)
        tokens = tokens + self.clip.positional_embedding[packing.positions]
        return self._encode_text(tokens[None], packing.visible, packing.ends)

    def encode_behind(
        self, prompts: Float[Tensor, "T L W"], prefixes: FrozenPrefixes
    ) -> Float[Tensor, "T E"]:
        """Encode prompts whose beginnings are frozen; the same as `encode_prompts`, sooner."""
        tokens = prefixes.cut(prompts) + self.clip.positional_embedding[prefixes.rest]
        before = list(zip(prefixes.keys, prefixes.values, strict=True))
        return self._encode_text(tokens, prefixes.visible, prefixes.ends, before)

    def place_positions(
        self, grid: tuple[int, int], valid: Bool[Tensor, "B N"] | None
    ) -> Float[Tensor, "#B L D"]:
        """Resize the position embedding to the grid or, with padding, to the region of each image.

        What is padding gets zeros.
        """
        # the class token's position, and those of the patches
        known = self.clip.visual.positional_embedding
        class_position, positions = known[:1], known[1:]
        positions = positions.unflatten(0, tuple(self.clip.visual.grid_size))
        if valid is None:
            resized = resize_positions(positions, grid).flatten(0, 1)
            return torch.cat([class_position, resized])[None]

        # one region after the other
        placed = positions.new_zeros(len(valid), *grid, positions.shape[-1])
        for image, region in enumerate(valid.cpu().unflatten(1, grid)):
            rows = region.any(dim=1).nonzero().flatten().tolist()
            columns = region.any(dim=0).nonzero().flatten().tolist()
            if rows:
                size = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
                area = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
                placed[image][area] = resize_positions(positions, size)
        return torch.cat([class_position.expand(len(valid), 1, -1), placed.flatten(1, 2)], dim=1)

    def _embed_patches(
        self,
        images: Float[Tensor, "B 3 H W"],
        grid: tuple[int, int],
        valid: Bool[Tensor, "B N"] | None,
    ) -> Float[Tensor, "B L D"]:
        visual = self.clip.visual
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.expand(len(images), 1, -1)
        return visual.ln_pre(
            torch.cat([class_token, patches], dim=1) + self.place_positions(grid, valid)
        )

    def _run_first_blocks(
        self, tokens: Float[Tensor, "B L D"], visible: Bool[Tensor, "..."] | None, opened: int
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B N N"] | None]:
        """Run all blocks but the last, and average the attention of the last `opened` ones."""
        # weights are held only where they are asked for
        blocks = self.clip.visual.transformer.resblocks
        opened = min(opened, len(blocks))
        for block in blocks[: len(blocks) - max(opened, 1)]:
            tokens = run_block(block, tokens, visible)
        if not opened:
            return tokens, None

        # of the last block they are all that is computed
        attention: Tensor | float = 0.0
        for block in blocks[len(blocks) - opened : -1]:
            added, weights = attend_openly(block, block.ln_1(tokens), visible)
            tokens = transform(block, tokens + added)
            attention = attention + weights
        queries, keys, _ = project_heads(blocks[-1], blocks[-1].ln_1(tokens))
        attention = attention + average_heads(queries, keys, visible)
        return tokens, attention[:, 1:, 1:] / opened

    def _run_last_block(
        self, tokens: ImageTokens, activations: Float[Tensor, "B N D"] | None
    ) -> Float[Tensor, "B L D"]:
        visual = self.clip.visual
        block = visual.transformer.resblocks[-1]
        normed = block.ln_1(tokens.inputs)
        if activations is not None:
            normed = torch.cat([normed[:, :1], activations], dim=1)
        added, _ = attend_openly(block, normed, show_keys(tokens.valid))
        return visual.ln_post(transform(block, tokens.inputs + added))

    def _encode_text(
        self,
        tokens: Float[Tensor, "B L W"],
        visible: Bool[Tensor, "..."],
        ends: Int[Tensor, "T"],
        before: Sequence[tuple[Tensor, Tensor] | None] | None = None,
    ) -> Float[Tensor, "T E"]:
        """Run the text encoder.

        `ends` indexes the tokens of all sequences in a row; `before` holds, for each block, keys
        and values of tokens that stand before these.
        """
        blocks, projection = self.clip.transformer.resblocks, self.clip.text_projection
        before = before or [None] * len(blocks)
        for block, frozen in zip(blocks[:-1], before, strict=False):
            tokens = run_block(block, tokens, visible, frozen)
        tokens = tokens + attend(blocks[-1], blocks[-1].ln_1(tokens), visible, before[-1])

        # only the ends are read, so only they pass the last perceptron
        features = self.clip.ln_final(
            transform(blocks[-1], tokens.flatten(0, 1).index_select(0, ends))
        )
        if projection is None:
            return features
        if isinstance(projection, nn.Linear):
            return projection(features)
        return multiply(features, projection)

    def _measure_grid(self, images: Float[Tensor, "B 3 H W"]) -> tuple[int, int]:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size or not height or not width:
            raise ValueError(
                f"images are {height}x{width}; each side must be a multiple of the patch size "
                f"{self.patch_size}: resize them first (fmawsss.resizing.AlignToPatch)"
            )
        return height // self.patch_size, width // self.patch_size

    def _find_valid(self, padding: Bool[Tensor, "B H W"]) -> Bool[Tensor, "B N"]:
        """Return the patches that hold at least one pixel of the image."""
        cells = padding.unflatten(2, (-1, self.patch_size)).unflatten(1, (-1, self.patch_size))
        return ~cells.all(dim=4).all(dim=2).flatten(1)
