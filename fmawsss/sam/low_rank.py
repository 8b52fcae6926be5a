"""An image of features per point, written as changes to one image that all points share.

SAM's decoder gives each point an image of features of its own, and spends its time on projecting
these images. Yet they differ from the crop's image only by what the tokens wrote into it: attention
weights (`traces`, one map per head and token) times what each token wrote (`strokes`). A LayerNorm
over channels centres, divides every pixel by its spread and scales the channels, and so keeps the
form

    image[n] = scale[n] * base[n] + sum_j traces[j, n] * strokes[j] + offset

Every linear map of the image is then the map of the base, computed once per crop, and the map of a
few dozen strokes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Sketch:
    """The images of Q points: what each changes in the base."""

    scale: Float[Tensor, "Q N"]
    traces: Float[Tensor, "Q J N"]
    strokes: Float[Tensor, "Q J D"]
    values: tuple[
        Float[Tensor, "Q _heads _tokens _d"], ...
    ]  # what the strokes were written from, by each writer


@dataclass(frozen=True)
class Writer:
    """A linear map that turned values of tokens, head by head, into strokes; `bias` is shared by
    the heads.
    """

    weight: Float[Tensor, "D heads d"]
    bias: Float[Tensor, "D"]

    def write(self, values: Float[Tensor, "Q heads T d"]) -> Float[Tensor, "Q J D"]:
        """Make one stroke for each head and token."""
        strokes = (
            torch.einsum("qhtd,chd->qhtc", values, self.weight) + self.bias / self.weight.shape[1]
        )
        return strokes.flatten(1, 2)


@dataclass(frozen=True)
class Projection:
    """A linear map of images, cut into heads: of the base, of offset, positions and bias, and its
    weight.
    """

    base: Float[Tensor, "heads d N"]
    constant: Float[Tensor, "heads d N"]
    weight: Float[Tensor, "heads d D"]

    @classmethod
    def prepare(
        cls,
        linear: torch.nn.Linear,
        heads: int,
        base: Float[Tensor, "N D"],
        constant: Float[Tensor, "N D"],
    ) -> Projection:
        """Map the base, and apart from it whatever does not scale with it."""
        mapped, rest = base @ linear.weight.T, constant @ linear.weight.T + linear.bias
        split = [values.T.unflatten(0, (heads, -1)).contiguous() for values in (mapped, rest)]
        return cls(split[0], split[1], linear.weight.unflatten(0, (heads, -1)))

    def compare(
        self, sketch: Sketch, queries: Float[Tensor, "Q heads T d"]
    ) -> Float[Tensor, "Q heads T N"]:
        """Multiply each query with the mapped image of its point: attention before the softmax."""
        scores = queries.new_empty(*queries.shape[:3], self.base.shape[2])
        if sketch.traces.shape[1] == 0:
            return scores.copy_(multiply_heads(queries, self.base + self.constant))
        mixed = torch.einsum("qhtd,hdc,qjc->qhtj", queries, self.weight, sketch.strokes).flatten(
            1, 2
        )
        torch.mul(multiply_heads(queries, self.base), sketch.scale[:, None, None], out=scores)
        scores.add_(multiply_heads(queries, self.constant))
        scores.flatten(1, 2).baddbmm_(mixed, sketch.traces)
        return scores

    def gather(
        self, sketch: Sketch, weights: Float[Tensor, "Q heads T N"]
    ) -> Float[Tensor, "Q heads T d"]:
        """Average the mapped image with weights that sum to one; the constant is the same at every
        pixel.
        """
        seen = (weights.flatten(1, 2) @ sketch.traces.mT) @ sketch.strokes
        strokes = torch.einsum("qhtc,hdc->qhtd", seen.unflatten(1, weights.shape[1:3]), self.weight)
        scaled = torch.mul(
            weights.transpose(0, 1),
            sketch.scale[None, :, None],
            out=weights.new_empty(weights.shape[1], weights.shape[0], *weights.shape[2:]),
        )
        base = (
            (scaled.flatten(1, 2) @ self.base.mT)
            .unflatten(1, (-1, weights.shape[2]))
            .transpose(0, 1)
        )
        return base + strokes + self.constant[:, None, :, 0]


@dataclass(frozen=True)
class Norm:
    """A LayerNorm of images: the centred base's squared length, and its products with what each
    writer writes.
    """

    gain: Float[Tensor, "D"]
    epsilon: float
    energy: Float[Tensor, "N"]
    products: tuple[Float[Tensor, "_heads _d N"], ...]
    biases: tuple[Float[Tensor, "N"], ...]

    @classmethod
    def prepare(
        cls,
        norm: torch.nn.LayerNorm,
        base: Float[Tensor, "N D"],
        writers: Sequence[Writer],
        gains: Sequence[Sequence[Float[Tensor, "D"]]],
    ) -> Norm:
        """Prepare for strokes that were centred and scaled by the `gains` of earlier norms since
        they were written.
        """
        centred = centre(base)
        products, biases = [], []
        for writer, passed in zip(writers, gains, strict=True):
            seen = centred
            for gain in reversed(passed):  # the transpose of what these norms did to the strokes
                seen = centre(seen * gain)
            products.append(torch.einsum("nc,chd->hdn", seen, writer.weight).contiguous())
            biases.append(seen @ writer.bias / writer.weight.shape[1])
        return cls(norm.weight, norm.eps, centred.square().sum(1), tuple(products), tuple(biases))

    def apply(self, sketch: Sketch) -> Sketch:
        """Normalise every pixel; the norm's own bias becomes the offset."""
        strokes, double = centre(sketch.strokes), 2 * sketch.scale[:, None, None]
        work, start = torch.empty_like(sketch.traces), 0
        for values, product, bias in zip(sketch.values, self.products, self.biases, strict=True):
            cross = multiply_heads(values, product).add_(bias)
            stop = start + values.shape[1] * values.shape[2]
            torch.mul(cross, double, out=work[:, start:stop].unflatten(1, values.shape[1:3]))
            start = stop

        # the squared length of scale * base + traces * strokes
        work.baddbmm_(strokes @ strokes.mT, sketch.traces)
        length = work.mul_(sketch.traces).sum(1) + self.energy * sketch.scale.square()
        spread = (length / strokes.shape[2] + self.epsilon).rsqrt()
        traces = sketch.traces.mul_(spread[:, None])
        return Sketch(sketch.scale * spread, traces, strokes * self.gain, sketch.values)


def multiply_heads(
    vectors: Float[Tensor, "Q heads T d"], maps: Float[Tensor, "heads d N"]
) -> Float[Tensor, "Q heads T N"]:
    """Multiply vectors with maps that all points share, in one product per head."""
    flat = vectors.transpose(0, 1).flatten(1, 2) @ maps
    return flat.unflatten(1, (-1, vectors.shape[2])).transpose(0, 1)


def centre(vectors: Float[Tensor, "*many D"]) -> Float[Tensor, "*many D"]:
    """Subtract the mean over channels."""
    return vectors - vectors.mean(-1, keepdim=True)
