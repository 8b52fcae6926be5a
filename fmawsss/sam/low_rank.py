"""An image per point, kept as a low-rank update of the one image that all points share.

SAM's decoder lets every point write into an image of its own, and spends its time on multiplying
all these images with weights. But the images start equal, and what a point writes is little: each
of its few tokens adds one vector, more to some pixels and less to others. So we keep the shared
image, and for each point what was added:

      image of point q      =     shared image      +         what point q added

       D channels                                      J maps        D channels
      +----------+              +----------+           +----+       +----------+
      |          |              |          |           |    |       | vectors  |  J (some dozens)
    N |          |     =      N |          |     +   N |    |   x   +----------+
      |          |              |          |           |    |
      +----------+              +----------+           +----+
      never made                once per crop          maps: attention of the pixels to the tokens
                                                       vectors: what the tokens wrote

Points of several crops are asked together, equally many of each: what is made of a crop has an axis
G of crops in front, and Q points are those of the G crops in turn (`by_crop`).

A linear layer of the image is then that of the shared image, computed once per crop, and that of J
vectors instead of N pixels. A LayerNorm centres the channels, divides every pixel by its spread and
scales the channels: a factor per pixel joins in, and the form stays:

    image[n] = scale[n] * base[n] + sum_j maps[j, n] * vectors[j] + offset
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LowRankUpdate:
    """What each of Q points changes in the image tokens that all of them share."""

    scale: Float[Tensor, "Q N"]
    maps: Float[Tensor, "Q J N"]
    vectors: Float[Tensor, "Q J D"]
    # what each writer made the vectors of
    values: tuple[Float[Tensor, "Q _heads _tokens _d"], ...]


@dataclass(frozen=True)
class Writer:
    """The linear layer that turns the values of tokens, head by head, into vectors.

    Every head adds its part of the bias.
    """

    weight: Float[Tensor, "D heads d"]
    bias: Float[Tensor, "D"]

    def write(self, values: Float[Tensor, "Q heads T d"]) -> Float[Tensor, "Q J D"]:
        """Make one vector for each head and token."""
        vectors = torch.einsum("qhtd,chd->qhtc", values, self.weight)
        return (vectors + self.bias / self.weight.shape[1]).flatten(1, 2)


@dataclass(frozen=True)
class Projection:
    """A linear layer of images, cut into heads, and what it makes of the shared image."""

    base: Float[Tensor, "G heads d N"]
    constant: Float[Tensor, "G heads d N"]  # what does not scale: offset, positions and bias
    weight: Float[Tensor, "heads d D"]

    @classmethod
    def prepare(
        cls,
        linear: torch.nn.Linear,
        heads: int,
        base: Float[Tensor, "N D"],
        constant: Float[Tensor, "N D"],
    ) -> Projection:
        """Apply the layer to the shared image, and apart from it to what does not scale with it."""
        mapped, rest = base @ linear.weight.T, constant @ linear.weight.T + linear.bias
        split = [values.T.unflatten(0, (heads, -1)).contiguous() for values in (mapped, rest)]
        return cls(split[0][None], split[1][None], linear.weight.unflatten(0, (heads, -1)))

    @classmethod
    def join(cls, parts: Sequence[Projection]) -> Projection:
        """Put what one layer makes of several crops behind one another."""
        bases, constants = [part.base for part in parts], [part.constant for part in parts]
        return cls(torch.cat(bases), torch.cat(constants), parts[0].weight)

    def compare(
        self, update: LowRankUpdate, queries: Float[Tensor, "Q heads T d"]
    ) -> Float[Tensor, "Q heads T N"]:
        """Multiply queries with the layer's image of their point: the logits of an attention."""
        logits = queries.new_empty(*queries.shape[:3], self.base.shape[3])
        own = by_crop(logits, self.base)
        if update.maps.shape[1] == 0:
            own.copy_(multiply_heads(queries, self.base + self.constant))
            return logits

        # the shared image
        scale = by_crop(update.scale, self.base)[:, :, None, None]
        torch.mul(multiply_heads(queries, self.base), scale, out=own)
        own.add_(multiply_heads(queries, self.constant))

        # what the point added
        mixed = torch.einsum("qhtd,hdc,qjc->qhtj", queries, self.weight, update.vectors)
        logits.flatten(1, 2).baddbmm_(mixed.flatten(1, 2), update.maps)
        return logits

    def gather(
        self, update: LowRankUpdate, weights: Float[Tensor, "Q heads T N"]
    ) -> Float[Tensor, "Q heads T d"]:
        """Average the layer's image with weights that sum to one.

        The constant must be the same at every pixel: a layer without positions.
        """
        # what the point added
        seen = (weights.flatten(1, 2) @ update.maps.mT) @ update.vectors
        added = torch.einsum("qhtc,hdc->qhtd", seen.unflatten(1, weights.shape[1:3]), self.weight)

        # the shared image, in one product per crop and head
        own = by_crop(weights, self.base).transpose(1, 2)
        scale = by_crop(update.scale, self.base)[:, None, :, None]
        scaled = torch.mul(own, scale, out=weights.new_empty(own.shape))
        shared = (scaled.flatten(2, 3) @ self.base.mT).unflatten(2, (-1, weights.shape[2]))
        read = shared.transpose(1, 2) + by_crop(added, self.base)
        return (read + self.constant[:, None, :, None, :, 0]).flatten(0, 1)


@dataclass(frozen=True)
class Norm:
    """A LayerNorm of images: every pixel's length follows from a few products.

    These are the squared length of the shared image, centred, and its products with what each
    writer writes.
    """

    gain: Float[Tensor, "D"]
    epsilon: float
    squared_length: Float[Tensor, "G N"]
    products: tuple[Float[Tensor, "G _heads _d N"], ...]  # with the weights of each writer
    biases: tuple[Float[Tensor, "G N"], ...]  # with its bias

    @classmethod
    def prepare(
        cls,
        norm: torch.nn.LayerNorm,
        base: Float[Tensor, "N D"],
        writers: Sequence[Writer],
        gains: Sequence[Sequence[Float[Tensor, "D"]]],
    ) -> Norm:
        """Prepare for vectors that earlier norms have centred and scaled by their `gains`."""
        centred = centre(base)
        products, biases = [], []
        for writer, passed in zip(writers, gains, strict=True):
            seen = centred
            for gain in reversed(passed):  # the transpose of what these norms did to the vectors
                seen = centre(seen * gain)
            product = torch.einsum("nc,chd->hdn", seen, writer.weight).contiguous()
            products.append(product[None])
            biases.append((seen @ writer.bias / writer.weight.shape[1])[None])
        length = centred.square().sum(1)[None]
        return cls(norm.weight, norm.eps, length, tuple(products), tuple(biases))

    @classmethod
    def join(cls, parts: Sequence[Norm]) -> Norm:
        """Put what one norm makes of several crops behind one another."""
        first = parts[0]
        length = torch.cat([part.squared_length for part in parts])
        products = map(torch.cat, zip(*(part.products for part in parts), strict=True))
        biases = map(torch.cat, zip(*(part.biases for part in parts), strict=True))
        return cls(first.gain, first.epsilon, length, tuple(products), tuple(biases))

    def apply(self, update: LowRankUpdate) -> LowRankUpdate:
        """Normalise every pixel; the norm's own bias becomes the offset."""
        vectors = centre(update.vectors)
        double = by_crop(2 * update.scale[:, None, None], self.squared_length)

        # twice the products of base and vectors, writer by writer
        work = torch.empty_like(update.maps)
        start = 0
        for values, product, bias in zip(update.values, self.products, self.biases, strict=True):
            cross = multiply_heads(values, product).add_(bias[:, None, None, None])
            stop = start + values.shape[1] * values.shape[2]
            place = work[:, start:stop].unflatten(1, values.shape[1:3])
            torch.mul(cross, double, out=by_crop(place, product))
            start = stop

        # the squared length of scale * base + maps * vectors, pixel by pixel
        work.baddbmm_(vectors @ vectors.mT, update.maps)
        shared = self.squared_length[:, None] * by_crop(update.scale.square(), self.squared_length)
        length = work.mul_(update.maps).sum(1) + shared.flatten(0, 1)
        factor = (length / vectors.shape[2] + self.epsilon).rsqrt()
        maps = update.maps.mul_(factor[:, None])
        return LowRankUpdate(update.scale * factor, maps, vectors * self.gain, update.values)


def multiply_heads(
    vectors: Float[Tensor, "Q heads T d"], images: Float[Tensor, "G heads d N"]
) -> Float[Tensor, "G q heads T N"]:
    """Multiply vectors with images that all points of a crop share: a product per crop and head."""
    flat = by_crop(vectors, images).transpose(1, 2).flatten(2, 3) @ images
    return flat.unflatten(2, (-1, vectors.shape[2])).transpose(1, 2)


def by_crop(
    values: Float[Tensor, "Q *rest"], like: Float[Tensor, "G *more"]
) -> Float[Tensor, "G q *rest"]:
    """View what belongs to points by the crops that they lie in, equally many in each."""
    return values.unflatten(0, (len(like), -1))


def centre(vectors: Float[Tensor, "*many D"]) -> Float[Tensor, "*many D"]:
    """Subtract the mean over channels."""
    return vectors - vectors.mean(-1, keepdim=True)
