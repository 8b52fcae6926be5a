"""The prompt tasks as first written, straight from METHOD 2 and 4: slow, obvious, the same numbers.

The plain form of a CAM (METHOD 3) is the library's own, `fmawsss.cam.compute_cams_plainly`;
training steps are compared with the way of the released code, `compute_cams_at_once`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer, UInt8
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from fmawsss.cam import compute_logits


def embed_prompts(
    clip: CLIP,
    tokenize: Callable[[list[str]], Tensor],
    names: Sequence[str],
    contexts: Float[Tensor, "S K W"],
    name_first: bool,
) -> tuple[Float[Tensor, "T L W"], Integer[Tensor, "T"]]:
    """Write `[SOS] v_1 … v_K name . [EOS]`, filled up to all tokens that the encoder takes.

    Returns the embedded prompts, and where EOS stands in each.
    """
    device, embed = contexts.device, clip.token_embedding
    start, dot, end = tokenize(["."])[0, :3].to(device)
    rows, ends = [], []
    for index, name in enumerate(names):
        ids = tokenize([name])[0].to(device)
        words = embed(ids[1 : int(ids.argmax())])
        context = contexts[index if len(contexts) > 1 else 0]
        middle = torch.cat([words, context] if name_first else [context, words])
        written = torch.cat([embed(start[None]), middle, embed(torch.stack([dot, end]))])
        unused = embed(ids.new_zeros(clip.context_length - len(written)))
        rows.append(torch.cat([written, unused]))
        ends.append(len(written) - 1)
    return torch.stack(rows), torch.tensor(ends, device=device)


def encode_text(
    clip: CLIP, prompts: Float[Tensor, "T L W"], ends: Integer[Tensor, "T"]
) -> Float[Tensor, "T E"]:
    """Run the text encoder on all tokens of all prompts."""
    tokens = clip.transformer(prompts + clip.positional_embedding, attn_mask=clip.attn_mask)
    last = clip.ln_final(tokens)[torch.arange(len(ends), device=ends.device), ends]
    return last @ clip.text_projection


def embed_images(
    visual: VisionTransformer, images: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B L D"]:
    """Cut images into patches, the class token first, with position embeddings of their grid."""
    patches = visual.conv1(images)
    positions = visual.positional_embedding[1:].T.reshape(1, -1, *visual.grid_size)
    positions = F.interpolate(
        positions, size=patches.shape[-2:], mode="bilinear", align_corners=False
    )
    patches = (patches + positions).flatten(2).transpose(1, 2)
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    return visual.ln_pre(torch.cat([first, patches], dim=1))


@torch.no_grad()
def run_encoder(
    visual: VisionTransformer, images: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B E"]:
    """Run open_clip's own blocks and average the patches: the bare image encoder."""
    tokens = embed_images(visual, images)
    for block in visual.transformer.resblocks:
        tokens = block(tokens)
    return visual.ln_post(tokens)[:, 1:].mean(dim=1) @ visual.proj


@torch.no_grad()
def enter_last_block(
    visual: VisionTransformer, images: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B L D"]:
    """Run all blocks but the last."""
    tokens = embed_images(visual, images)
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    return tokens


@torch.no_grad()
def store_attention(
    visual: VisionTransformer, images: Float[Tensor, "B 3 H W"]
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "blocks B L L"]]:
    """Run all blocks but the last, and keep the attention of every block, the last included."""
    tokens, stored = embed_images(visual, images), []
    blocks = visual.transformer.resblocks
    for block in blocks[:-1]:
        added, weights = attend(block, block.ln_1(tokens))
        tokens = tokens + added
        tokens = tokens + block.mlp(block.ln_2(tokens))
        stored.append(weights)
    stored.append(attend(blocks[-1], blocks[-1].ln_1(tokens))[1])
    return tokens, torch.stack(stored)


def attend(
    block: ResidualAttentionBlock, normed: Float[Tensor, "B L D"]
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L L"]]:
    """Return what the attention adds, and its weights, averaged over the heads."""
    return block.attn(normed, normed, normed, need_weights=True)


def compute_cams_at_once(
    clip: CLIP,
    inputs: Float[Tensor, "B L D"],
    text_features: Float[Tensor, "T E"],
    labels: Bool[Tensor, "B C"],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P N"]]:
    """Return logits and the CAM of every pair, all pairs in one batched backward pass.

    As the released code does: the gradient of each pair is taken by the activations of all images.
    """
    visual, block = clip.visual, clip.visual.transformer.resblocks[-1]

    # The last block, from its normalised input on
    normed = block.ln_1(inputs)
    activations = normed[:, 1:].detach().requires_grad_()
    tokens = inputs + attend(block, torch.cat([normed[:, :1], activations], dim=1))[0]
    tokens = tokens + block.mlp(block.ln_2(tokens))
    features = visual.ln_post(tokens)[:, 1:].mean(dim=1) @ visual.proj
    logits = compute_logits(features, text_features, clip.logit_scale.exp())

    # The probabilities of the present classes, against the background
    compared = F.pad(labels, (0, logits.shape[1] - labels.shape[1]), value=True)
    probabilities = logits.masked_fill(~compared, float("-inf")).softmax(dim=1)

    # One probability for every pair, and the gradient of each by all images: (P, B, N, D)
    images, classes = labels.nonzero(as_tuple=True)
    pairs = torch.arange(len(images), device=images.device)
    chosen = probabilities.new_zeros(len(images), *probabilities.shape)
    chosen[pairs, images, classes] = 1.0
    (gradients,) = torch.autograd.grad(
        probabilities, activations, chosen, create_graph=True, is_grads_batched=True
    )
    weights = gradients[pairs, images].mean(dim=1)
    return logits, torch.einsum("pnd,pd->pn", activations.detach()[images], weights)


def contrastive_loss(
    logits: Float[Tensor, "B C"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Compare each positive with the negatives of its image, averaged over all positive pairs."""
    losses = []
    for row, present in zip(logits, labels, strict=True):
        exponentials = row.exp()
        losses += [-(e / (e + exponentials[~present].sum())).log() for e in exponentials[present]]
    return torch.stack(losses).mean()


def cam_activation_loss(
    cams: Float[Tensor, "P h w"], seeds: UInt8[Tensor, "B H W"], labels: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Compare each CAM with its seed map by L1; divide by the pixels that are not ignored."""
    maps = F.interpolate(cams[None], size=seeds.shape[1:], mode="bilinear", align_corners=False)[0]
    images, classes = labels.nonzero(as_tuple=True)
    total, pixels = cams.new_zeros(()), 0
    for cam, seed, index in zip(maps, seeds[images], classes, strict=True):
        foreground, known = seed == index + 1, seed != 255
        peak = (cam * foreground).max().detach()
        total = total + (peak - cam)[foreground].abs().sum()
        total = total + cam[~foreground & known].clamp_min(0).sum()
        pixels = pixels + known.sum()
    return total / pixels
