"""The training view of a SAM: its forward pass for many points per image on crops, and the losses.

The forward pass computes what segment_anything's modules compute, over their own parameters, but
leaves masks in token order: (token row, token column, 2 x 2, 2 x 2), as the two transposed
convolutions make them. A test compares the two.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from segment_anything.modeling import ImageEncoderViT, Sam, TwoWayTransformer
from segment_anything.modeling.image_encoder import Block
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from fmawsss.tiny.pretrain_data import mimic_attention, position_table

AFFINITY_TOKENS = 196


class SamTrainer(nn.Module):
    """A SAM with the helpers of its training on image features: token affinity and pixel head."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        start_sam(sam)
        patch = sam.image_encoder.patch_embed.proj.kernel_size[0]
        self.affinity = nn.Parameter(torch.tensor([6.0, -2.0]))
        self.pixel_head = nn.Linear(sam.prompt_encoder.embed_dim, 2 * patch * patch)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        instances: Int[Tensor, "B H W"],
        corner: Int[Tensor, "2"],
        points: Float[Tensor, "n 2"],
        whole: Bool[Tensor, "n H W"],
        part: Bool[Tensor, "n H W"],
    ) -> dict[str, Tensor]:
        """Compute all losses of a batch; `total` is the one to minimise."""
        # Answers to the points
        pixels = (images - self.sam.pixel_mean) / self.sam.pixel_std
        features = encode_images(self.sam.image_encoder, pixels, corner)
        logits, quality = decode_points(self.sam, features, points, corner)
        wholes, parts = (order_by_token(m, features.shape[1]).float() for m in (whole, part))

        # Masks, and the IoU that they expect of themselves
        losses, truth = compare_levels(logits.float(), wholes, parts)
        overlap = measure_overlap(logits, truth)
        masks = losses["whole"] + losses["part"] + 0.5 * losses["middle"] + 0.5 * losses["single"]
        loss_quality = F.mse_loss(quality.float(), overlap)

        # What the features know of objects
        loss_affinity = self.affinity_loss(features, instances)
        loss_pixel = self.pixel_loss(features, instances)
        return {
            "total": masks + loss_quality + 0.5 * loss_affinity + 0.5 * loss_pixel,
            "whole": losses["whole"].detach(),
            "part": losses["part"].detach(),
            "iou": overlap[:, 3].mean().detach(),
            "quality": loss_quality.detach(),
            "affinity": loss_affinity.detach(),
            "pixel": loss_pixel.detach(),
        }

    def affinity_loss(
        self, features: Float[Tensor, "B h w D"], instances: Int[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Teach tokens of one instance to agree, others not to.

        A token belongs to the instance of its middle pixel.
        """
        # Some tokens, compared with each other
        grid, side = features.shape[1], instances.shape[1]
        patch = side // grid
        owner = instances[:, patch // 2 :: patch, patch // 2 :: patch].flatten(1)
        some = torch.randperm(grid * grid, device=owner.device)[:AFFINITY_TOKENS]
        owner, tokens = owner[:, some], F.normalize(features.float().flatten(1, 2)[:, some], dim=-1)
        logits = self.affinity[0] * (tokens @ tokens.transpose(1, 2)) + self.affinity[1]

        # Pairs with an object, alike ones as heavy as unlike ones
        same = owner[:, :, None] == owner[:, None]
        counts = (owner[:, :, None] > 0) | (owner[:, None] > 0)
        alike, unlike = (counts & same).float(), (counts & ~same).float()
        weight = alike / alike.sum().clamp_min(1) + unlike / unlike.sum().clamp_min(1)
        losses = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        return (weight * losses).sum()

    def pixel_loss(
        self, features: Float[Tensor, "B h w D"], instances: Int[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Teach the image features where objects are and where instances meet, pixel by pixel."""
        # Two answers for each pixel
        batch, grid, _, _ = features.shape
        patch = instances.shape[1] // grid
        logits = self.pixel_head(features).float().view(batch, grid, grid, 2, patch, patch)
        logits = logits.permute(3, 0, 1, 4, 2, 5).reshape(2, *instances.shape)

        # Objects, and the pixels where an instance begins
        border = torch.zeros_like(instances, dtype=torch.bool)
        border[:, 1:] |= instances[:, 1:] != instances[:, :-1]
        border[:, :, 1:] |= instances[:, :, 1:] != instances[:, :, :-1]
        truth = torch.stack([instances > 0, border]).float()
        return F.binary_cross_entropy_with_logits(logits, truth)


def compare_levels(
    logits: Float[Tensor, "n 4 p"], wholes: Float[Tensor, "n p"], parts: Float[Tensor, "n p"]
) -> tuple[dict[str, Tensor], Float[Tensor, "n 4 p"]]:
    """Compare the masks of each level with what they should be; returns losses and truths.

    Level 2 learns the whole, level 0 the part, level 1 what it resembles more, the single mask the
    whole.
    """
    single, low, middle, high = logits.unbind(1)
    to_whole, to_part = mask_loss(middle, wholes), mask_loss(middle, parts)
    losses = {
        "whole": mask_loss(high, wholes).mean(),
        "part": mask_loss(low, parts).mean(),
        "middle": torch.minimum(to_whole, to_part).mean(),
        "single": mask_loss(single, wholes).mean(),
    }

    # In the order of the masks
    nearer = torch.where((to_whole < to_part)[:, None], wholes, parts)
    return losses, torch.stack([wholes, parts, nearer, wholes], 1)


def encode_images(
    encoder: ImageEncoderViT, images: Float[Tensor, "B 3 H W"], corner: Int[Tensor, "2"]
) -> Float[Tensor, "B h w D"]:
    """Encode normalised crops.

    corner: row and column of the crops' first token on the full image's grid.
    """
    # Tokens, each with the position embedding of its place
    patch = encoder.patch_embed.proj.kernel_size[0]
    batch, grid = len(images), images.shape[-1] // patch
    pixels = images.view(batch, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5).flatten(3)
    tokens = F.linear(
        pixels, encoder.patch_embed.proj.weight.flatten(1), encoder.patch_embed.proj.bias
    )
    rows, columns = (start + torch.arange(grid, device=images.device) for start in corner)
    tokens = tokens + encoder.pos_embed[0][rows][:, columns]

    # Through the blocks
    for block in encoder.blocks:
        tokens = run_sam_block(block, tokens)
    return encoder.neck(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def run_sam_block(block: Block, tokens: Float[Tensor, "B h w D"]) -> Float[Tensor, "B h w D"]:
    """Apply one block of the encoder, in windows where it has them; windows must fill the grid."""
    # Cut windows
    batch, grid, _, width = tokens.shape
    side = block.window_size or grid
    count = grid // side
    windows = (
        block.norm1(tokens)
        .view(batch, count, side, count, side, width)
        .transpose(2, 3)
        .reshape(-1, side * side, width)
    )

    # Tokens of a window look at each other
    queries, keys, values = (
        block.attn.qkv(windows)
        .unflatten(-1, (3, block.attn.num_heads, -1))
        .permute(2, 0, 3, 1, 4)
        .unbind(0)
    )
    weights = (queries @ keys.transpose(-1, -2) * block.attn.scale).softmax(-1)
    mixed = block.attn.proj((weights.to(values.dtype) @ values).transpose(1, 2).flatten(2))

    # Put windows together
    mixed = mixed.view(batch, count, count, side, side, width).transpose(2, 3).reshape(tokens.shape)
    tokens = tokens + mixed
    return tokens + block.mlp(block.norm2(tokens))


def decode_points(
    sam: Sam,
    features: Float[Tensor, "B h w D"],
    points: Float[Tensor, "n 2"],
    corner: Int[Tensor, "2"],
) -> tuple[Float[Tensor, "n 4 p"], Float[Tensor, "n 4"]]:
    """Answer points with four masks, in token order, and their expected IoU.

    points: x and y in pixels of the full image, (0.5, 0.5) in the middle of the first one: SAM's
        prompt encoder is given pixel indices and adds the half itself. Those of one image follow
        each other, equally many per image.
    """
    # Tokens of the prompts
    decoder, prompts, grid = sam.mask_decoder, sam.prompt_encoder, features.shape[1]
    size, full = prompts.input_image_size[0], prompts.image_embedding_size[0]
    place = prompts.pe_layer.forward_with_coords(points[:, None], (size, size))
    place = place + prompts.point_embeddings[1].weight
    padding = prompts.not_a_point_embed.weight.expand(len(points), 1, -1)
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(
        len(points), -1, -1
    )
    queries = torch.cat([outputs, place, padding], 1)

    # Tokens of the images, once for each point
    rows, columns = (start + torch.arange(grid, device=features.device) for start in corner)
    positions = prompts.pe_layer((full, full))[:, rows][:, :, columns].flatten(1).T
    keys = (
        (features + prompts.no_mask_embed.weight)
        .flatten(1, 2)
        .repeat_interleave(len(points) // len(features), 0)
    )
    queries, keys = exchange(decoder.transformer, queries, keys, positions)

    # A transposed convolution with stride = kernel is one matrix product per token
    first, norm, _, second, _ = decoder.output_upscaling
    fine = (keys @ first.weight.permute(0, 2, 3, 1).flatten(1)).unflatten(-1, (4, -1)) + first.bias
    fine = F.gelu(F.layer_norm(fine, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    fine = F.gelu(
        (fine @ second.weight.permute(0, 2, 3, 1).flatten(1)).unflatten(-1, (4, -1)) + second.bias
    )

    # Each mask is a product with pixels
    kernels = torch.stack(
        [mlp(queries[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1
    )
    masks = kernels @ fine.flatten(1, 3).transpose(1, 2)
    return masks, decoder.iou_prediction_head(queries[:, 0])


def exchange(
    transformer: TwoWayTransformer,
    prompts: Float[Tensor, "n t D"],
    keys: Float[Tensor, "n N D"],
    positions: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "n t D"], Float[Tensor, "n N D"]]:
    """Let prompts and image tokens attend to each other, as SAM's two-way transformer does."""
    queries = prompts
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.norm1(run_attention(layer.self_attn, queries, queries, queries))
        else:
            placed = queries + prompts
            queries = layer.norm1(queries + run_attention(layer.self_attn, placed, placed, queries))

        # Prompts look at the image, and the image at prompts
        image = keys + positions
        queries = layer.norm2(
            queries + run_attention(layer.cross_attn_token_to_image, queries + prompts, image, keys)
        )
        queries = layer.norm3(queries + layer.mlp(queries))
        keys = layer.norm4(
            keys + run_attention(layer.cross_attn_image_to_token, image, queries + prompts, queries)
        )

    # The last look
    answer = run_attention(
        transformer.final_attn_token_to_image, queries + prompts, keys + positions, keys
    )
    return transformer.norm_final_attn(queries + answer), keys


def run_attention(
    attention: Attention,
    queries: Float[Tensor, "n q D"],
    keys: Float[Tensor, "n k D"],
    values: Float[Tensor, "n k D"],
) -> Float[Tensor, "n q D"]:
    """Apply SAM's attention layer by plain matrix products, whose backward pass is fast on CPU."""
    # Queries, keys and values of each head
    heads = attention.num_heads
    queries, keys, values = (
        projection(tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection, tokens in (
            (attention.q_proj, queries),
            (attention.k_proj, keys),
            (attention.v_proj, values),
        )
    )

    # Mixed
    weights = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).softmax(-1)
    return attention.out_proj((weights.to(values.dtype) @ values).transpose(1, 2).flatten(2))


def order_by_token(masks: Shaped[Tensor, "n H W"], grid: int) -> Shaped[Tensor, "n p"]:
    """Bring masks to the order of `decode_points`; their side must be four times the grid."""
    return masks.view(-1, grid, 2, 2, grid, 2, 2).permute(0, 1, 4, 2, 5, 3, 6).flatten(1)


def mask_loss(logits: Float[Tensor, "n p"], truth: Float[Tensor, "n p"]) -> Float[Tensor, "n"]:
    """Add focal loss (times four), dice loss and cross-entropy per mask."""
    probability = logits.sigmoid()
    entropy = F.softplus(logits) - logits * truth
    right = probability * truth + (1 - probability) * (1 - truth)
    dice = 1 - (2 * (probability * truth).sum(1) + 1) / (probability.sum(1) + truth.sum(1) + 1)
    return ((1 + 4 * (1 - right) ** 2) * entropy).mean(1) + dice


@torch.no_grad()
def measure_overlap(
    logits: Float[Tensor, "n L p"], truth: Float[Tensor, "n L p"]
) -> Float[Tensor, "n L"]:
    """Measure the IoU of masks cut at logit 0."""
    answer, truth = logits > 0, truth > 0.5
    return (answer & truth).sum(-1) / (answer | truth).sum(-1).clamp_min(1)


@torch.no_grad()
def start_sam(sam: Sam) -> None:
    """Start the encoder with sine positions and mimetic attention.

    The decoder starts with attention between equal places.
    """
    # The encoder
    encoder = sam.image_encoder
    grid, width = encoder.pos_embed.shape[1], encoder.pos_embed.shape[3]
    encoder.pos_embed.copy_(
        position_table(width, grid, class_token=False).view(1, grid, grid, width)
    )
    for block in encoder.blocks:
        mimic_attention(block.attn.qkv.weight, block.attn.proj.weight, block.attn.num_heads)

    # The decoder
    for name, module in sam.mask_decoder.transformer.named_modules():
        if isinstance(module, Attention) and "image" in name:
            nn.init.orthogonal_(module.q_proj.weight, gain=1.6)
            module.k_proj.weight.copy_(module.q_proj.weight)
            nn.init.zeros_(module.q_proj.bias)
            nn.init.zeros_(module.k_proj.bias)
