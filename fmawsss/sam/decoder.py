"""SAM's mask decoder for many points of one crop: what all of them share is computed once.

The same numbers as `segment_anything.modeling.MaskDecoder`, up to rounding; `low_rank.py` says why
it is fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from fmawsss.clip.blocks import split_heads
from fmawsss.sam.low_rank import LowRankUpdate, Norm, Projection, Writer, centre


@dataclass(frozen=True)
class PreparedLayer:
    """What a layer of the decoder computes from the crop alone."""

    keys: Projection
    values: Projection
    queries: Projection
    norm: Norm
    # the bias of the norm before, which this layer's norm centres with everything else
    offset: Writer | None

    @classmethod
    def join(cls, parts: Sequence[PreparedLayer]) -> PreparedLayer:
        """Put what the layer computes from several crops behind one another."""
        columns = zip(*((p.keys, p.values, p.queries, p.norm) for p in parts), strict=True)
        keys, values, queries, norms = columns
        joined = Projection.join(keys), Projection.join(values), Projection.join(queries)
        return cls(*joined, Norm.join(norms), parts[0].offset)


@dataclass(frozen=True)
class PreparedCrop:
    """What the decoder computes from a crop alone."""

    layers: tuple[PreparedLayer, ...]
    keys: Projection
    values: Projection
    upscaled: Float[Tensor, "h w U"]  # by the first upscaling
    upscaled_offset: Float[Tensor, "U"]


@dataclass(frozen=True)
class Decoded:
    """What the decoder says about Q points before it draws masks."""

    iou: Float[Tensor, "Q 3"]
    tokens: Float[Tensor, "Q 4 D"]  # one per mask; the first belongs to SAM's single-mask mode
    update: LowRankUpdate

    def split(self, crops: int) -> list[Decoded]:
        """Part the points of several crops, equally many of each."""
        update, found = self.update, []
        parts = (self.iou, self.tokens, update.scale, update.maps, update.vectors)
        for iou, tokens, scale, maps, vectors in zip(*(p.chunk(crops) for p in parts), strict=True):
            found.append(Decoded(iou, tokens, LowRankUpdate(scale, maps, vectors, ())))
        return found


class PointDecoder(nn.Module):
    """Answer points with the weights of a SAM's mask decoder."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def prepare(
        self, image: Float[Tensor, "D h w"], positions: Float[Tensor, "D h w"]
    ) -> PreparedCrop:
        """Compute what all points of a crop have in common."""
        transformer = self.decoder.transformer
        base, places = image.flatten(1).T, positions.flatten(1).T
        offset = torch.zeros_like(base[0])

        # layer by layer: all writers so far, each with the gains of the norms passed since
        layers: list[PreparedLayer] = []
        writers: list[Writer] = []
        gains: list[list[Tensor]] = []
        for block in transformer.layers:
            if layers:
                writers.append(Writer(offset[:, None, None], torch.zeros_like(offset)))
                gains.append([])
            writers.append(read_writer(block.cross_attn_image_to_token))
            gains.append([])
            layers.append(prepare_layer(block, base, places, offset, writers, gains))
            gains = [[*passed, block.norm4.weight] for passed in gains]
            base, offset = centre(base) * block.norm4.weight, block.norm4.bias

        # the last attention, and the first upscaling
        final, first = transformer.final_attn_token_to_image, self.decoder.output_upscaling[0]
        return PreparedCrop(
            tuple(layers),
            Projection.prepare(final.k_proj, final.num_heads, base, places + offset),
            Projection.prepare(final.v_proj, final.num_heads, base, offset.expand_as(base)),
            (base @ flatten_upscaling(first)).unflatten(0, image.shape[1:]),
            offset @ flatten_upscaling(first) + first.bias.repeat(4),
        )

    def decode(self, crops: Sequence[PreparedCrop], prompts: Float[Tensor, "Q K D"]) -> Decoded:
        """Run the decoder's transformer and its head for the predicted IoU.

        The points are those of the crops in turn, equally many of each.
        """
        decoder, transformer, amount = self.decoder, self.decoder.transformer, len(prompts)
        layers, keys, values = join_crops(crops)

        # the tokens of all points, and images that nobody has written into
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        places = queries = torch.cat([outputs.expand(amount, -1, -1), prompts], dim=1)
        pixels = keys.base.shape[3]
        update = LowRankUpdate(
            queries.new_ones(amount, pixels), queries.new_zeros(amount, 0, pixels),
            queries.new_zeros(amount, 0, queries.shape[2]), (),
        )  # fmt: skip

        # tokens read the images, images read the tokens
        for block, prepared in zip(transformer.layers, layers, strict=True):
            queries = update_tokens(block, prepared, update, queries, places)
            update = update_image(block, prepared, update, queries, places)

        # a last look at the images
        final = transformer.final_attn_token_to_image
        read = attend_to_image(final, keys, values, update, queries + places)
        tokens = transformer.norm_final_attn(queries + read)
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        return Decoded(iou, tokens[:, 1 : 1 + decoder.num_mask_tokens], update)

    def draw(
        self,
        crop: PreparedCrop,
        decoded: Decoded,
        wanted: Bool[Tensor, "Q 3"],
        cells: tuple[int, int],
    ) -> Float[Tensor, "M y x"]:
        """Draw the masks that are `wanted`, which lies on the CPU, point by point.

        Only the first `cells` (down, right) of the image are drawn, four by four pixels each.
        """
        first, norm, activation, second, last = self.decoder.output_upscaling
        (down, right), size = cells, crop.upscaled.shape[:2]

        # the images of the points that are asked for, where they are drawn
        drawn = wanted.any(1).nonzero()[:, 0]
        chosen = wanted[drawn].flatten().nonzero()[:, 0]
        device = crop.upscaled.device
        asked, chosen = (n.to(device, non_blocking=True) for n in (drawn, chosen))
        update = decoded.update
        maps = update.maps[asked].unflatten(2, size)[:, :, :down, :right].flatten(2)
        scale = update.scale[asked].unflatten(1, size)[:, :down, :right].flatten(1)

        # both upscalings turn each cell into two by two: matrix products, channels last
        base = crop.upscaled[:down, :right].flatten(0, 1)
        features = (base * scale[:, :, None]).add_(crop.upscaled_offset)
        features.baddbmm_(maps.mT, update.vectors[asked] @ flatten_upscaling(first))
        features = features.unflatten(2, (4, -1))
        features = activation(
            layer_norm(features, features.shape[3:], norm.weight, norm.bias, norm.eps)
        )
        features = last((features @ flatten_upscaling(second)).add_(second.bias.repeat(4)))

        # every mask is a product of the features with weights made of its token
        tokens = decoded.tokens[asked].unbind(1)
        readers = zip(self.decoder.output_hypernetworks_mlps, tokens, strict=True)
        weights = torch.stack([read(token) for read, token in readers], dim=1)[:, 1:]
        logits = weights @ features.flatten(1, 2).unflatten(2, (4, -1)).flatten(1, 2).mT
        return arrange_pixels(logits, cells).flatten(0, 1)[chosen]


def join_crops(
    crops: Sequence[PreparedCrop],
) -> tuple[Sequence[PreparedLayer], Projection, Projection]:
    """Return the layers, keys and values of one crop, or of several behind one another."""
    if len(crops) == 1:
        return crops[0].layers, crops[0].keys, crops[0].values
    layers = [PreparedLayer.join(each) for each in zip(*(c.layers for c in crops), strict=True)]
    keys = Projection.join([crop.keys for crop in crops])
    return layers, keys, Projection.join([crop.values for crop in crops])


def prepare_layer(
    block: TwoWayAttentionBlock,
    base: Float[Tensor, "N D"],
    places: Float[Tensor, "N D"],
    offset: Float[Tensor, "D"],
    writers: list[Writer],
    gains: list[list[Float[Tensor, "D"]]],
) -> PreparedLayer:
    """Compute what one layer makes of the crop alone; the last of the `writers` is its own."""
    to_image, to_tokens = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    return PreparedLayer(
        Projection.prepare(to_image.k_proj, to_image.num_heads, base, places + offset),
        Projection.prepare(to_image.v_proj, to_image.num_heads, base, offset.expand_as(base)),
        Projection.prepare(to_tokens.q_proj, to_tokens.num_heads, base, places + offset),
        Norm.prepare(block.norm4, base, writers, gains),
        writers[-2] if len(writers) > 1 else None,
    )


def update_tokens(
    block: TwoWayAttentionBlock,
    prepared: PreparedLayer,
    update: LowRankUpdate,
    queries: Float[Tensor, "Q T D"],
    places: Float[Tensor, "Q T D"],
) -> Float[Tensor, "Q T D"]:
    """Let the tokens attend to each other and to the image."""
    # to each other
    if block.skip_first_layer_pe:
        queries = block.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + places
        queries = queries + block.self_attn(q=placed, k=placed, v=queries)
    queries = block.norm1(queries)

    # to the image
    attention = block.cross_attn_token_to_image
    placed = queries + places
    read = attend_to_image(attention, prepared.keys, prepared.values, update, placed)
    queries = block.norm2(queries + read)
    return block.norm3(queries + block.mlp(queries))


def attend_to_image(
    attention: Attention,
    keys: Projection,
    values: Projection,
    update: LowRankUpdate,
    queries: Float[Tensor, "Q T D"],
) -> Float[Tensor, "Q T D"]:
    """Let tokens attend to the images of their points."""
    asked = split_heads(attention.q_proj(queries), attention.num_heads)
    weights = keys.compare(update, asked / math.sqrt(asked.shape[3])).softmax(3)
    return attention.out_proj(values.gather(update, weights).transpose(1, 2).flatten(2))


def update_image(
    block: TwoWayAttentionBlock,
    prepared: PreparedLayer,
    update: LowRankUpdate,
    queries: Float[Tensor, "Q T D"],
    places: Float[Tensor, "Q T D"],
) -> LowRankUpdate:
    """Let every pixel attend to the tokens, then normalise."""
    # the maps: how much every pixel attends to each token
    attention = block.cross_attn_image_to_token
    keys = split_heads(attention.k_proj(queries + places), attention.num_heads)
    logits = prepared.queries.compare(update, keys / math.sqrt(keys.shape[3]))
    maps = logits.softmax(2).flatten(1, 2)

    # the vectors: what the token writes
    values = split_heads(attention.v_proj(queries), attention.num_heads)
    vectors = read_writer(attention).write(values)
    given: tuple[Tensor, ...] = (values,)

    # what the norm before added to all pixels, as one more vector
    if prepared.offset is not None:
        ones = queries.new_ones(len(queries), 1, 1, 1)
        maps = torch.cat([torch.ones_like(maps[:, :1]), maps], 1)
        vectors = torch.cat([prepared.offset.write(ones), vectors], 1)
        given = (ones, values)
    return prepared.norm.apply(
        LowRankUpdate(
            update.scale,
            torch.cat([update.maps, maps], 1),
            torch.cat([update.vectors, vectors], 1),
            (*update.values, *given),
        )
    )


def read_writer(attention: Attention) -> Writer:
    """Take the last layer of an attention for what writes vectors."""
    linear = attention.out_proj
    return Writer(linear.weight.unflatten(1, (attention.num_heads, -1)), linear.bias)


def flatten_upscaling(layer: nn.ConvTranspose2d) -> Float[Tensor, "D U"]:
    """Write a transposed convolution, two by two, as a matrix: a cell becomes four, row by row."""
    return layer.weight.permute(0, 2, 3, 1).flatten(1)


def arrange_pixels(
    logits: Float[Tensor, "Q 3 pixels"], cells: tuple[int, int]
) -> Float[Tensor, "Q 3 y x"]:
    """Put the sixteen pixels of every cell, four quarters of four, where they belong."""
    down, right = cells
    parts = logits.view(-1, 3, down, right, 2, 2, 2, 2)
    return parts.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(logits), 3, 4 * down, 4 * right)
