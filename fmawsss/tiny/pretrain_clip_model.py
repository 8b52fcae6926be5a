"""The training view of a CLIP: its forward pass on crops, and the losses.

The forward pass computes what open_clip's modules compute, over their own parameters; a test
compares the two. Tags are words of the captions: classes, colours, backgrounds and stuff.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from fmawsss.tiny.pretrain_data import mimic_attention, position_table
from fmawsss.tiny.shapes import CLASS_NAMES

CLASSES = len(CLASS_NAMES)


@dataclass(frozen=True)
class ClipBatch:
    """Crops with all that is said of them, in the order of `ClipTrainer.forward`."""

    images: Float[Tensor, "B 3 H W"]
    corner: Int[Tensor, "2"]
    patches: Float[Tensor, "B N C_and_ground"]  # shares of the classes in each patch, ground last
    tags: Float[Tensor, "B T"]
    captions: Int[Tensor, "B t"]
    kept: Int[Tensor, "B K"]  # patches that are seen


class ClipTrainer(nn.Module):
    """A CLIP with the helpers of its training: a compact token table, a tag head and a patch head.

    token_ids: rows of the full vocabulary that are trained; texts are indices into them.
    class_weights: of the patch loss, ground last.
    """

    tag_weights: Float[Tensor, "T"]
    class_weights: Float[Tensor, "C_and_ground"]

    def __init__(
        self,
        clip: CLIP,
        token_ids: Int[Tensor, "V"],
        tags: int,
        class_weights: Float[Tensor, "C_and_ground"],
    ) -> None:
        super().__init__()
        start_clip(clip.visual)

        # Only the rows of known words are trained
        width, embed = clip.token_embedding.weight.shape[1], clip.visual.output_dim
        self.tokens = nn.Embedding(len(token_ids), width)
        self.tokens.weight.data.copy_(clip.token_embedding.weight[token_ids])
        clip.token_embedding.requires_grad_(False)
        self.clip = clip

        # Heads, and what their classes weigh
        self.tag_head = nn.Linear(embed, tags)
        self.patch_head = nn.Linear(embed, CLASSES + 1)
        tag_weights = torch.ones(tags)
        tag_weights[:CLASSES] = 3.0
        self.register_buffer("tag_weights", tag_weights)
        self.register_buffer("class_weights", class_weights)

    def forward(
        self, batch: ClipBatch, patch_weight: Float[Tensor, ""], early_weight: Float[Tensor, ""]
    ) -> dict[str, Tensor]:
        """Compute all losses of a batch; `total` is the one to minimise."""
        # Patches, encoded
        early, tokens = encode_patches(self.clip.visual, batch.images, batch.corner, batch.kept)
        shape = (-1, -1, batch.patches.shape[2])
        patches = batch.patches.gather(1, batch.kept[..., None].expand(shape))
        feature = tokens.mean(1)

        # Captions and tags
        contrast = self.contrast_loss(feature, batch.captions)
        by_head = F.binary_cross_entropy_with_logits(
            self.tag_head(feature).float(), batch.tags, weight=self.tag_weights
        )

        # One head reads the patches before and after the last block: what a class looks like points
        # the same way in both, so that the channels a CAM weighs there are those that the answer is
        # made of
        logits = self.patch_head(tokens).float()
        entropy, early_entropy = (
            -(patches * self.class_weights * found.log_softmax(-1)).sum(-1).mean()
            for found in (logits, self.patch_head(early).float())
        )

        # All together, and how often a patch is named rightly
        total = contrast + 5 * by_head + patch_weight * (entropy + early_weight * early_entropy)
        right = (logits.argmax(-1) == patches.argmax(-1)) & (patches.argmax(-1) < CLASSES)
        return {
            "total": total,
            "contrast": contrast.detach(),
            "head": by_head.detach(),
            "patch": entropy.detach(),
            "patch_accuracy": right.sum() / (patches.argmax(-1) < CLASSES).sum().clamp_min(1),
        }

    def contrast_loss(
        self, feature: Float[Tensor, "B D"], captions: Int[Tensor, "B t"]
    ) -> Float[Tensor, ""]:
        """Teach captions to find their images, and images their captions."""
        text = F.normalize(self.encode_texts(captions).float(), dim=-1)
        direction = F.normalize(feature.float(), dim=-1)
        similarity = self.clip.logit_scale.exp() * direction @ text.T
        own = torch.arange(len(direction), device=direction.device)
        return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2

    def encode_texts(self, texts: Int[Tensor, "B t"]) -> Float[Tensor, "B D"]:
        """Encode texts, given as indices into the compact table; the end has the highest one."""
        # Words that see only those before them
        length = texts.shape[1]
        tokens = self.tokens(texts) + self.clip.positional_embedding[:length]
        mask = torch.full((length, length), float("-inf"), device=texts.device).triu(1)
        for block in self.clip.transformer.resblocks:
            tokens = run_clip_block(block, tokens, mask)

        # The end stands for the text
        rows = torch.arange(len(texts), device=texts.device)
        ends = self.clip.ln_final(tokens[rows, texts.argmax(1)])
        return ends @ self.clip.text_projection.to(ends.dtype)


def encode_patches(
    visual: VisionTransformer,
    images: Float[Tensor, "B 3 H W"],
    corner: Int[Tensor, "2"],
    kept: Int[Tensor, "B K"],
) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K D"]]:
    """Project patches of normalised crops, before and after the last block.

    corner: row and column of the first patch on the full grid. kept: the patches that are seen.
    """
    # Pixels of each patch, and its place on the full grid
    patch, full = visual.patch_size[0], visual.grid_size[0]
    batch, grid = len(images), images.shape[-1] // patch
    pixels = (
        images.view(batch, 3, grid, patch, grid, patch)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(batch, grid * grid, -1)
    )
    rows, columns = (start + torch.arange(grid, device=images.device) for start in corner)
    places = visual.positional_embedding[1:].view(full, full, -1)[rows][:, columns].flatten(0, 1)

    # Tokens of the patches that are seen, behind the class token
    pixels = pixels.gather(1, kept[..., None].expand(-1, -1, pixels.shape[2]))
    tokens = F.linear(pixels, visual.conv1.weight.flatten(1)) + places[kept]
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(batch, 1, -1)
    tokens = visual.ln_pre(torch.cat([first.to(tokens.dtype), tokens], 1))

    # Through the blocks
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = run_clip_block(block, tokens, None)
    return project_patches(visual, tokens), project_patches(
        visual, run_clip_block(last, tokens, None)
    )


def project_patches(
    visual: VisionTransformer, tokens: Float[Tensor, "B L D"]
) -> Float[Tensor, "B N E"]:
    """Normalise and project the patches as the last tokens are."""
    patches = visual.ln_post(tokens[:, 1:])
    return patches @ visual.proj.to(patches.dtype)


def run_clip_block(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "B N D"], mask: Float[Tensor, "N N"] | None
) -> Float[Tensor, "B N D"]:
    """Apply one block by plain matrix products, whose backward pass is fast on CPU."""
    # Queries, keys and values of each head
    attention = block.attn
    inputs = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    queries, keys, values = (
        inputs.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    )

    # Tokens look at each other
    logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    weights = (logits if mask is None else logits + mask).softmax(-1)
    mixed = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
    tokens = tokens + attention.out_proj(mixed)
    return tokens + block.mlp(block.ln_2(tokens))


@torch.no_grad()
def start_clip(visual: VisionTransformer) -> None:
    """Start the image tower with sine positions and mimetic attention.

    The last block starts with values that come back as they are, not negated: a CAM is what
    attention carries there.
    """
    width, grid = visual.positional_embedding.shape[1], visual.grid_size[0]
    visual.positional_embedding.copy_(position_table(width, grid, class_token=True))
    for block in visual.transformer.resblocks:
        mimic_attention(block.attn.in_proj_weight, block.attn.out_proj.weight, block.attn.num_heads)
    visual.transformer.resblocks[-1].attn.out_proj.weight.neg_()
