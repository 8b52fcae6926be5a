"""The objects of an image that a text-prompted model found, one by one, as masks and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor
from torchvision.ops import nms

from fmawsss.precision import widen
from fmawsss.scores import resize_maps
from fmawsss.superpixels import decode_masks, encode_masks
from fmawsss.text_prompted.maps import Found


@dataclass(frozen=True, eq=False)
class FoundClass:
    """What was found of one class, by each of its phrases."""

    value: int  # of the class in masks
    phrases: Sequence[str]
    found: Sequence[Found]


@dataclass(frozen=True, eq=False)
class Instances:
    """The K objects of an image, on the CPU, the surest of each class first.

    values: of their classes in masks. scores: 0…1. boxes: left, top, right, bottom in pixels.
    counts, offsets: their masks as run lengths, as those of `Superpixels`.
    """

    size: tuple[int, int]  # height, width
    values: Int[Tensor, "K"]
    scores: Float[Tensor, "K"]
    boxes: Float[Tensor, "K 4"]
    phrases: Sequence[str]
    counts: Int32[Tensor, "_R"]
    offsets: Int64[Tensor, "_O"]

    def masks(self) -> Iterator[Bool[Tensor, "H W"]]:
        """Decode the masks, one after the other."""
        for first, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            alone = torch.tensor([0, end - first])
            yield decode_masks(self.counts[first:end], alone, self.size)[0]


def list_instances(
    classes: Sequence[FoundClass], size: tuple[int, int], overlap: float
) -> Instances:
    """List the objects of an image of `size`, their masks where logits are above 0.

    Of boxes of one class that overlap by more than `overlap` (intersection over union), as several
    phrases find them, the surest stays. An object without a pixel is none.
    """
    height, width = size
    rows: list[tuple[int, float, Tensor, str, Tensor]] = []
    for each in classes:
        names = [name for name, f in zip(each.phrases, each.found, strict=True) for _ in f.scores]
        boxes = torch.cat([found.boxes for found in each.found]).cpu()
        scores = torch.cat([found.scores for found in each.found]).cpu()
        logits = torch.cat([found.masks for found in each.found])
        for number in nms(boxes, scores, overlap).tolist():
            mask = (resize_maps(widen(logits[number : number + 1]), size) > 0).cpu()
            if mask.any():
                box = boxes[number] * torch.tensor([width, height, width, height])
                runs, _ = encode_masks(mask)
                rows.append((each.value, float(scores[number]), box, names[number], runs))

    # side by side
    lengths = torch.tensor([0, *(len(runs) for *_, runs in rows)])
    return Instances(
        size,
        torch.tensor([value for value, *_ in rows], dtype=torch.int64),
        torch.tensor([score for _, score, *_ in rows], dtype=torch.float32),
        torch.stack([box for _, _, box, *_ in rows]) if rows else torch.zeros(0, 4),
        [name for *_, name, _ in rows],
        torch.cat([runs for *_, runs in rows]) if rows else torch.zeros(0, dtype=torch.int32),
        lengths.cumsum(0),
    )
