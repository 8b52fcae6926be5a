"""The forward pass of a SAM that is trained: many points per image, on crops.

It computes what segment_anything's modules compute, over their own parameters, but leaves masks in
token order: (token row, token column, 2 x 2, 2 x 2), as the two transposed convolutions make them.
A test compares the two.
"""

import torch
from jaxtyping import Float, Int, Shaped
from segment_anything.modeling import ImageEncoderViT, Sam, TwoWayTransformer
from segment_anything.modeling.image_encoder import Block
from segment_anything.modeling.transformer import Attention
from torch import Tensor
from torch.nn import functional as F


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
    # Tokens of the prompts, and of the images once for each point
    decoder, prompts, grid = sam.mask_decoder, sam.prompt_encoder, features.shape[1]
    queries, full = embed_queries(sam, points), prompts.image_embedding_size[0]
    rows, columns = (start + torch.arange(grid, device=features.device) for start in corner)
    positions = prompts.pe_layer((full, full))[:, rows][:, :, columns].flatten(1).T
    keys = (
        (features + prompts.no_mask_embed.weight)
        .flatten(1, 2)
        .repeat_interleave(len(points) // len(features), 0)
    )
    queries, keys = exchange(decoder.transformer, queries, keys, positions)

    # Each mask is a product with pixels
    fine = upscale(sam, keys)
    kernels = torch.stack(
        [mlp(queries[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1
    )
    masks = kernels @ fine.flatten(1, 3).transpose(1, 2)
    return masks, decoder.iou_prediction_head(queries[:, 0])


def embed_queries(sam: Sam, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n t D"]:
    """Embed points, each behind the tokens that become its IoU and its masks."""
    # A point, and the padding that SAM puts behind it
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    size = prompts.input_image_size[0]
    place = prompts.pe_layer.forward_with_coords(points[:, None], (size, size))
    place = place + prompts.point_embeddings[1].weight
    padding = prompts.not_a_point_embed.weight.expand(len(points), 1, -1)

    # The tokens of the answers
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    return torch.cat([outputs.expand(len(points), -1, -1), place, padding], 1)


def upscale(sam: Sam, tokens: Float[Tensor, "n N D"]) -> Float[Tensor, "n N 4 4 d"]:
    """Turn each token into 4 x 4 pixels, by SAM's two transposed convolutions.

    Where stride = kernel, one is a matrix product per token.
    """
    first, norm, _, second, _ = sam.mask_decoder.output_upscaling
    fine = tokens @ first.weight.permute(0, 2, 3, 1).flatten(1)
    fine = fine.unflatten(-1, (4, -1)) + first.bias
    fine = F.gelu(F.layer_norm(fine, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    fine = fine @ second.weight.permute(0, 2, 3, 1).flatten(1)
    return F.gelu(fine.unflatten(-1, (4, -1)) + second.bias)


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
