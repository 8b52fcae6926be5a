"""Quasi-superpixels: the record of an image, and the rock-sand-water filter (METHOD 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Integer, UInt8
from torch import Tensor

from fmawsss.sam.bitmasks import count_bits, count_overlaps, pack_masks, unpack_masks

CHUNK_PIXELS = 1 << 26  # of Boolean masks unpacked at once: 64 MB


@runtime_checkable
class ImageCutter(Protocol):
    """Whatever makes superpixels of images."""

    def generate_batch(self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> list[Superpixels]:
        """Cut RGB images of any sizes."""


@dataclass(frozen=True, eq=False)
class Superpixels:
    """The M masks of one image, run-length coded, with what SAM said about each; on the CPU.

    A mask is coded column by column as in COCO's uncompressed RLE: lengths of alternating runs, the
    first one outside the mask (0 when the mask holds the first pixel). The runs of mask m are
    `counts[offsets[m]:offsets[m + 1]]`.
    """

    size: tuple[int, int]  # height, width of the image
    level: UInt8[Tensor, "M"]  # 0 subpart, 1 part, 2 whole
    area: Int64[Tensor, "M"]  # pixels
    box: Int64[Tensor, "M 4"]  # x, y, width, height; as SAM counts them, one pixel off the extent
    predicted_iou: Float32[Tensor, "M"]  # without any offset
    stability: Float32[Tensor, "M"]  # without any offset
    point: Float64[Tensor, "M 2"]  # x, y of the prompt, in pixels
    crop: Int64[Tensor, "M 4"]  # x, y, width, height of the crop that the mask was found in
    counts: Int32[Tensor, "R"]
    offsets: Int64[Tensor, "O"]

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Superpixels:
        """Make the record of an image in which no mask survived."""
        none, boxes, points = torch.zeros(0), torch.zeros(0, 4).long(), torch.zeros(0, 2).double()
        offsets = torch.zeros(1).long()
        return cls(
            size, none.byte(), none.long(), boxes, none, none, points, boxes, none.int(), offsets
        )

    def __len__(self) -> int:
        return len(self.level)

    def __reduce__(self) -> tuple[Any, ...]:
        # plain arrays: a tensor would cost a loader's worker one open file each
        return _rebuild, (
            self.size,
            *(getattr(self, field.name).numpy() for field in fields(self)[1:]),
        )

    def masks(self) -> Bool[Tensor, "M H W"]:
        """Decode all masks."""
        return decode_masks(self.counts, self.offsets, self.size)

    def mask(self, number: int) -> Bool[Tensor, "H W"]:
        """Decode one mask."""
        counts = self.counts[self.offsets[number] : self.offsets[number + 1]]
        return decode_masks(counts, torch.tensor([0, len(counts)]), self.size)[0]

    def runs(self) -> tuple[Int64[Tensor, "S"], Int64[Tensor, "S"], Int64[Tensor, "S"]]:
        """List the runs inside the masks: mask index, first pixel, pixel after the last.

        Pixels are counted column by column. They give sums under masks without decoding any: with
        `total` the cumulative sum of a map over its columns, a 0 in front, it is the sum over the
        runs of a mask of `total[stop] - total[start]`.
        """
        return self._runs

    @cached_property
    def _runs(self) -> tuple[Tensor, Tensor, Tensor]:
        owner, inside = _number_runs(self.counts, self.offsets)
        stops = self.counts.long().cumsum(0) - owner * (self.size[0] * self.size[1])
        starts = stops - self.counts
        places = inside.nonzero().flatten()
        return owner[places], starts[places], stops[places]

    def pixels(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """List the pixels inside the masks: mask index, and pixel, counted column by column."""
        owner, start, stop = self.runs()
        count = int((stop - start).sum())  # a device is not asked for it
        owner, start, stop = (values.to(device) for values in (owner, start, stop))
        length = stop - start
        spread = partial(torch.repeat_interleave, repeats=length, output_size=count)
        pixels = torch.arange(count, device=device) + spread(stop - length.cumsum(0))
        return spread(owner), pixels


def encode_masks(masks: Bool[Tensor, "M H W"]) -> tuple[Int32[Tensor, "R"], Int64[Tensor, "O"]]:
    """Code masks as run lengths: `(counts, offsets)` of `Superpixels`, on the CPU."""
    pixels = masks.shape[1] * masks.shape[2]
    flat = np.ascontiguousarray(masks.cpu().numpy().transpose(0, 2, 1)).reshape(len(masks), pixels)

    # a run ends wherever a pixel differs from the one before it; before the first there is nothing
    changed = flat.copy()
    changed[:, 1:] ^= flat[:, :-1]
    changes = np.flatnonzero(changed)
    runs = np.bincount(changes // max(pixels, 1), minlength=len(flat)) + 1
    offsets = np.concatenate([[0], runs.cumsum()])

    # every mask's last run ends with its last pixel, which is where the next mask begins
    ends = np.empty(offsets[-1], dtype=np.int64)
    last = np.zeros(len(ends), dtype=bool)
    last[offsets[1:] - 1] = True
    ends[last], ends[~last] = pixels * np.arange(1, len(flat) + 1), changes
    return torch.from_numpy(np.diff(ends, prepend=0).astype(np.int32)), torch.from_numpy(offsets)


def encode_packed(
    bits: UInt8[Tensor, "M Z"], size: tuple[int, int]
) -> tuple[Int32[Tensor, "R"], Int64[Tensor, "O"]]:
    """Code masks packed by `pack_masks` as `encode_masks` does, unpacking a few at a time."""
    rows = max(1, CHUNK_PIXELS // (size[0] * size[1]))
    parts = [encode_masks(unpack_masks(chunk, size)) for chunk in bits.split(rows)]
    lengths = torch.cat([torch.zeros(1).long(), *(offsets.diff() for _, offsets in parts)])
    return torch.cat([counts for counts, _ in parts]), lengths.cumsum(0)


def decode_masks(
    counts: Int32[Tensor, "R"], offsets: Int64[Tensor, "O"], size: tuple[int, int]
) -> Bool[Tensor, "M H W"]:
    """Undo `encode_masks` for an image of `size` (height, width)."""
    height, width = size
    _, inside = _number_runs(counts, offsets)
    flat = torch.from_numpy(np.repeat(inside.numpy(), counts.numpy()))
    return flat.view(len(offsets) - 1, width, height).transpose(1, 2).contiguous()


def filter_rock_sand_water(
    masks: Bool[Tensor, "M H W"], levels: Integer[Tensor, "M"], recall_threshold: float
) -> Int64[Tensor, "K"]:
    """Keep big rocks, then sand between them, then water (METHOD 1).

    A mask enters when less than `recall_threshold` of it lies in any one mask kept from the levels
    above. Returns the indices of the kept masks, highest level first.
    """
    return choose_rock_sand_water(pack_masks(masks), levels.cpu(), recall_threshold)


def choose_rock_sand_water(
    bits: UInt8[Tensor, "M Z"], levels: Integer[Tensor, "M"], recall_threshold: float
) -> Int64[Tensor, "K"]:
    """Do the work of `filter_rock_sand_water` on masks packed by `pack_masks`."""
    if len(levels) == 0:
        return torch.zeros(0, dtype=torch.int64)
    order = levels.argsort(descending=True, stable=True)
    levels, bits = levels[order], bits[order]

    # one product for all levels: the top level is never judged, the lowest never judges
    top, low = int((levels == levels.max()).sum()), int((levels > levels.min()).sum())
    recall = count_overlaps(bits, slice(top, None), slice(0, low)) / count_bits(bits[top:])[:, None]

    kept = levels == levels[0]
    for level in levels.unique().flip(0)[1:]:
        row = levels[top:] == level
        kept[top:][row] = (recall[row][:, kept[:low]] < recall_threshold).all(1)
    return order[kept]


def require_superpixels(superpixels: Superpixels | None, size: tuple[int, int]) -> Superpixels:
    """Return the superpixels of an image of `size`; raise ValueError where they are not its own."""
    if superpixels is None:
        raise ValueError(
            "SuperpixelSeeder needs superpixels, found none. Make them: python infer.py "
            "task=superpixels"
        )
    if tuple(superpixels.size) != tuple(size):
        raise ValueError(
            f"Superpixels of an image of {superpixels.size} (height, width), expected {size}: they "
            "were made from another image. Make them again: python infer.py task=superpixels "
            "overwrite=true"
        )
    return superpixels


def keep_made(superpixels: Superpixels) -> Superpixels:
    """Return superpixels that are made already, where others are made when they are asked for."""
    return superpixels


def _number_runs(
    counts: Int32[Tensor, "R"], offsets: Int64[Tensor, "O"]
) -> tuple[Int64[Tensor, "R"], Bool[Tensor, "R"]]:
    """Tell each run which mask it belongs to, and whether it lies inside that mask."""
    owner = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    inside = (torch.arange(len(counts)) - offsets[owner]) % 2 == 1
    return owner, inside


def _rebuild(size: tuple[int, int], *arrays: np.ndarray) -> Superpixels:
    return Superpixels(size, *map(torch.from_numpy, arrays))


def describe_superpixels(superpixels: Superpixels) -> dict[str, Any]:
    """Count the masks by level, the share of the image under some mask, the median mask's share."""
    height, width = superpixels.size
    shares = superpixels.area.double() / (height * width)
    _, pixels = superpixels.pixels()
    return {
        "levels": torch.bincount(superpixels.level.long(), minlength=3).tolist(),
        "covered": round(len(pixels.unique()) / (height * width), 4),
        "median_area": round(shares.median().item(), 5) if len(shares) else None,
    }
