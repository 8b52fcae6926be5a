"""What maps hold under superpixels (METHOD 7): means and sums, of one image or of many at once.

A device sums over runs (`sum_runs`), the CPU joins the runs of each superpixel (`average_runs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fmawsss.superpixels import Superpixels
from fmawsss.transfer import fetch

# of one image, where its maps lie: under each run (P, S), and the range (P,) of each map as a whole
RunSums: TypeAlias = tuple[Tensor, Tensor, Tensor]


def pool_mean(maps: Float[Tensor, "P H W"], superpixels: Superpixels) -> Float[Tensor, "P M"]:
    """Average each map over each superpixel; the result lies on the CPU."""
    return average_runs(fetch(sum_runs(maps[None], [superpixels])[0]), superpixels)


def pool_sum(maps: Float[Tensor, "P H W"], superpixels: Superpixels) -> Float[Tensor, "P M"]:
    """Sum each map over each superpixel; the result lies on the CPU."""
    return add_runs(fetch(sum_runs(maps[None], [superpixels])[0]), superpixels)


def sum_runs(maps: Float[Tensor, "B P H W"], superpixels: Sequence[Superpixels]) -> list[RunSums]:
    """Sum the maps of B images over runs, as differences of cumulative sums at their ends.

    No mask is decoded. In float64 equal superpixels get equal sums, so that ties stay ties.
    """
    # the ends of all runs, image behind image, in one copy to the device
    _, starts, stops = zip(*(found.runs() for found in superpixels), strict=True)
    counts = [len(start) for start in starts]
    first = torch.arange(len(counts)) * (maps.shape[2] * maps.shape[3] + 1)
    ends = torch.stack([torch.cat(starts), torch.cat(stops)])
    ends = ends + first.repeat_interleave(torch.tensor(counts), output_size=sum(counts))
    start, stop = ends.to(maps.device, non_blocking=True)

    # sums column by column, a 0 in front of each image
    running = maps.transpose(0, 1).mT.flatten(2).cumsum(2, dtype=torch.float64)
    running = torch.cat([running.new_zeros(*running.shape[:2], 1), running], dim=2).flatten(1)
    parts = running.index_select(1, stop) - running.index_select(1, start)
    low, high = maps.flatten(2).aminmax(dim=2)
    return list(zip(parts.split(counts, dim=1), low, high, strict=True))


def average_runs(sums: Sequence[Tensor], superpixels: Superpixels) -> Float[Tensor, "P M"]:
    """Turn the `RunSums` of an image, on the CPU, into means over superpixels.

    No mean leaves the range of its map by rounding: scores stay scores.
    """
    parts, low, high = sums
    means = (_join_runs(parts, superpixels) / superpixels.area).to(low.dtype)
    return means.clamp(low[:, None], high[:, None])


def add_runs(sums: Sequence[Tensor], superpixels: Superpixels) -> Float[Tensor, "P M"]:
    """Turn the `RunSums` of an image, on the CPU, into sums over superpixels."""
    parts, low, _ = sums
    return _join_runs(parts, superpixels).to(low.dtype)


def _join_runs(parts: Float64[Tensor, "P S"], superpixels: Superpixels) -> Float64[Tensor, "P M"]:
    owner, *_ = superpixels.runs()
    joined = parts.new_zeros(len(parts), len(superpixels))
    return joined.scatter_add_(1, owner.expand_as(parts), parts)
