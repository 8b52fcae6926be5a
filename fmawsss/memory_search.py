"""Neighbours of many images at once: those of `MemoryReader.find`, several times faster.

The superpixels of each class are read once for all images that show it, and compared in matrix
products. One that shows several classes of an image counts for the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fmawsss.memory import MemoryReader, Neighbours, RegionMemory

HIDDEN = -8.0  # is added to the cosine of what does not count
GROUP = 32  # cosines next to one another, of which the largest is looked at first


@dataclass(frozen=True, eq=False)
class Question:
    """The superpixels of one image that ask for neighbours.

    labels: the classes that the image shows.
    image: its own number in the memory, if it is there: nothing explains itself.
    """

    keys: Float[Tensor, "M D"]
    labels: Bool[Tensor, "C"]
    image: int | None


def find_together(
    questions: Sequence[Question], memory: RegionMemory, reader: MemoryReader, block: int
) -> list[Neighbours]:
    """Find the neighbours of the superpixels of several images.

    block: superpixels of the memory that are read at a time; a product takes as much at most.
    """
    # images with a class that too few others show ask nothing
    keys = torch.cat([question.keys for question in questions])
    counts = torch.tensor([len(question.keys) for question in questions])
    images = torch.tensor([-1 if q.image is None else q.image for q in questions])
    known = [memory.knows(question.labels, question.image, reader.least) for question in questions]
    labels = torch.stack([q.labels for q in questions]) & torch.tensor(known)[:, None]
    images, labels = images.repeat_interleave(counts), labels.repeat_interleave(counts, dim=0)

    # class by class, without the superpixels that showed an earlier one
    shape = (len(keys), reader.neighbours)
    best = Neighbours(torch.zeros(shape).long(), keys.new_full(shape, HIDDEN))
    for number in labels.any(dim=0).nonzero().flatten().tolist():
        asking = labels[:, number].nonzero().flatten()
        told = memory.labels[memory.owners, number].nonzero().flatten()
        for part in told.split(block):
            block_keys = torch.from_numpy(np.asarray(memory.keys[part.numpy()])).to(keys)
            shown = memory.labels[memory.owners[part], :number].to(keys).T
            for some in asking.split(keys.shape[1]):
                found = keys[some] @ block_keys.T
                found.addmm_(labels[some, :number].to(keys), shown, alpha=HIDDEN)
                hide_own(found, images[some], memory.owners[part])
                found, columns = find_best(found, reader.neighbours)
                keep_best(best, some, found, part[columns.cpu()])

    # as many as the image has at all, the same number for each of its superpixels
    sizes = counts.tolist()
    return [
        cut_off(Neighbours(row, cosine))
        for row, cosine in zip(best.rows.split(sizes), best.cosines.split(sizes), strict=True)
    ]


def find_none(question: Question) -> Neighbours:
    """Return the neighbours of an image that has none."""
    none = question.keys[:, :0]
    return Neighbours(none.cpu().long(), none)


def hide_own(
    cosines: Float[Tensor, "M B"], images: Int64[Tensor, "M"], owners: Int64[Tensor, "B"]
) -> None:
    """Hide the superpixels of a block that are of the same image as those that ask."""
    columns = torch.isin(owners, images).nonzero().flatten()
    own = images[:, None] == owners[columns]
    columns = columns.to(cosines.device)
    cosines[:, columns] = cosines[:, columns].masked_fill(own.to(cosines.device), HIDDEN)


def find_best(
    cosines: Float[Tensor, "M B"], count: int
) -> tuple[Float[Tensor, "M _K"], Int64[Tensor, "M _K"]]:
    """Find the largest cosines of each row, best first.

    They lie in the groups whose largest are the largest: most are looked at once only.
    """
    even = cosines.shape[1] // GROUP * GROUP
    if even < 2 * GROUP * count:
        return cosines.topk(min(count, cosines.shape[1]), dim=1)
    groups = cosines[:, :even].unflatten(1, (-1, GROUP)).amax(dim=2).topk(count, dim=1).indices
    columns = (groups[:, :, None] * GROUP + torch.arange(GROUP, device=groups.device)).flatten(1)
    rest = torch.arange(even, cosines.shape[1], device=groups.device).expand(len(cosines), -1)
    columns = torch.cat([columns, rest], dim=1)
    best = cosines.gather(1, columns).topk(count, dim=1)
    return best.values, columns.gather(1, best.indices)


def keep_best(
    best: Neighbours,
    some: Int64[Tensor, "M"],
    cosines: Float[Tensor, "M _K"],
    rows: Int64[Tensor, "M _K"],
) -> None:
    """Let neighbours of some superpixels join the best that were found so far."""
    cosines = torch.cat([best.cosines[some], cosines], dim=1)
    rows = torch.cat([best.rows[some], rows], dim=1)
    best.cosines[some], order = cosines.topk(best.cosines.shape[1], dim=1)
    best.rows[some] = rows.gather(1, order.cpu())


def cut_off(found: Neighbours) -> Neighbours:
    """Leave out what does not count; it stands last."""
    count = int((found.cosines > HIDDEN / 2).any(dim=0).sum())
    return Neighbours(found.rows[:, :count], found.cosines[:, :count])
