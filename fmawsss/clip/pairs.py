"""The (image, class) pairs that are present in a batch, and in which company they travel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """The (image, class) pairs that are present in a batch, images first.

    They are listed where the labels were made, and moved with them: a step that reads its pairs
    from labels on a device waits for the device.
    """

    images: Int[Tensor, "P"]
    classes: Int[Tensor, "P"]
    ranks: Int[Tensor, "P"]  # of a pair among those of its image: equal ranks travel together
    by_rank: list[Int[Tensor, "_"]]  # the pairs of each rank
    counts: list[int]  # of each image
    present: list[Int[Tensor, "_"]]  # the classes of each image, always on the CPU

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> Pairs:
        """Change every tensor."""
        joined = change(self.images), change(self.classes), change(self.ranks)
        by_rank = [change(pairs) for pairs in self.by_rank]
        return Pairs(*joined, by_rank, self.counts, self.present)


def list_pairs(labels: Bool[Tensor, "B C"]) -> Pairs:
    """List image and class of every present pair."""
    images, classes = labels.nonzero(as_tuple=True)
    ranks = labels.cumsum(dim=1)[images, classes] - 1
    counts = labels.sum(dim=1).tolist()
    by_rank = [(ranks == rank).nonzero().flatten() for rank in range(max([1, *counts]))]
    present = list(classes.cpu().split(counts))
    return Pairs(images, classes, ranks, by_rank, counts, present)
