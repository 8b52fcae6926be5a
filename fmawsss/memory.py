"""Region memory (METHOD 11.1): superpixels explained by look-alikes in images that share a label.

A superpixel has a *key*, the direction of the patches it covers, and a *value*, what SAMS gave it.
Both come from one pass over the images. The memory then asks for each superpixel which of those in
other images look most alike, among images that share a label with its own, and mixes their values
with its own. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8
from torch import Tensor

from fmawsss.seeding import Seed
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True, eq=False)
class ImageRegions:
    """What is kept of the M superpixels of one image, and of its pixels in no superpixel.

    keys: unit vectors; None where no encoder saw the image (CAMs of any origin).
    scores: what SAMS gave them, the background first.
    classes: the indices of the present classes.
    rest: the label of each pixel in no superpixel, column by column; `rest_confidence` beside it.
    """

    keys: Float[Tensor, "M D"] | None
    scores: Float[Tensor, "Q M"]
    classes: Int[Tensor, "P"]
    rest: UInt8[Tensor, "U"]
    rest_confidence: Float[Tensor, "U"]


@dataclass(frozen=True, eq=False)
class RegionMemory:
    """The S superpixels of I images, those of an image side by side.

    keys: unit vectors; an array of any float type, on disk if it is large.
    values: what each superpixel was taken for, background and all classes; rows sum to 1.
    owners: the image of each superpixel, ascending.
    labels: which classes each image shows, multi-hot.
    """

    keys: Shaped[np.ndarray, "S D"]
    values: Shaped[np.ndarray, "S R"]
    owners: Int64[Tensor, "S"]
    labels: Bool[Tensor, "I C"]

    def knows(self, labels: Bool[Tensor, "C"], without: int | None, least: int = 1) -> bool:
        """Say whether each of these classes is shown by `least` other images than one."""
        shown = self.labels.sum(dim=0)
        if without is not None:
            shown = shown - self.labels[without].long()
        return bool((shown[labels] >= least).all())

    def select_sharing(self, labels: Bool[Tensor, "C"], without: int | None) -> Bool[Tensor, "S"]:
        """Select the superpixels of images that share a label, but for those of one image."""
        sharing = (self.labels & labels).any(dim=1)
        if without is not None:
            sharing[without] = False
        return sharing[self.owners]

    @cached_property
    def class_sizes(self) -> Int64[Tensor, "C"]:
        """How many superpixels lie in images that show each class."""
        images = torch.bincount(self.owners, minlength=len(self.labels))
        return self.labels.long().T @ images

    def count_compared(self, labels: Bool[Tensor, "*I C"]) -> Int64[Tensor, "*I"]:
        """Count what images of some classes are compared with: for each class its superpixels."""
        return labels.long() @ self.class_sizes

    def read_keys(self, image: int) -> Float[Tensor, "M D"]:
        """Read the keys of one image."""
        first, end = torch.searchsorted(self.owners, torch.tensor([image, image + 1])).tolist()
        return torch.from_numpy(np.asarray(self.keys[first:end], np.float32))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The K superpixels of the memory that look most like each of M others, best first."""

    rows: Int64[Tensor, "M K"]
    cosines: Float[Tensor, "M K"]


@dataclass(frozen=True)
class MemoryReader:
    """Explain superpixels by their neighbours in a memory.

    neighbours: how many are asked, at most.
    temperature: of the softmax that turns cosines into weights; they are multiplied by it.
    own_share: the weight of a superpixel's own value.
    least: other images that must show each class of an image; few are no memory to trust.
    exact_up_to: an image that is compared with more superpixels asks an index; None asks none.
    """

    neighbours: int = 40
    temperature: float = 5.0
    own_share: float = 0.2
    least: int = 1
    exact_up_to: int | None = None

    def find(
        self,
        keys: Float[Tensor, "M D"],
        labels: Bool[Tensor, "C"],
        memory: RegionMemory,
        image: int | None = None,
    ) -> Neighbours:
        """Find the neighbours of the superpixels of one image; `memory_search` is the fast form.

        labels: the classes that the image shows.
        image: its own number in the memory, if it is there: nothing explains itself.

        An image with a class that fewer than `least` other images show has none.
        """
        known = memory.knows(labels, image, self.least)
        rows = (memory.select_sharing(labels, image) & known).nonzero().flatten()
        cosines = keys @ torch.from_numpy(np.asarray(memory.keys[rows.numpy()])).to(keys).T
        cosines, best = cosines.topk(min(self.neighbours, len(rows)), dim=1)
        return Neighbours(rows[best.cpu()], cosines)

    def listen(self, memory: RegionMemory, found: Neighbours) -> Float[Tensor, "M R"]:
        """Average what neighbours were taken for, by a softmax of their cosines; 0 without any."""
        seen = torch.from_numpy(np.asarray(memory.values[found.rows.numpy()])).to(found.cosines)
        weights = (self.temperature * found.cosines).softmax(dim=1)
        return torch.einsum("mk,mkr->mr", weights, seen)

    def mix(
        self,
        values: Float[Tensor, "M R"],
        labels: Bool[Tensor, "C"],
        told: Float[Tensor, "M R"],
    ) -> Float[Tensor, "M R"]:
        """Mix the values of superpixels with what neighbours told; rows sum to 1.

        Classes that the image does not show are not listened to. A superpixel whose neighbours know
        none of the others keeps its own value.
        """
        told = told * torch.cat([labels.new_ones(1), labels]).to(told)
        total = told.sum(dim=1, keepdim=True)
        mixed = (1 - self.own_share) * told / total + self.own_share * values
        return torch.where(total > 0, mixed, values)

    def explain(
        self,
        keys: Float[Tensor, "M D"],
        values: Float[Tensor, "M R"],
        labels: Bool[Tensor, "C"],
        memory: RegionMemory,
        image: int | None = None,
    ) -> tuple[Float[Tensor, "M R"], Neighbours]:
        """Score the superpixels of one image: `find` neighbours, `listen` to them, `mix`."""
        found = self.find(keys, labels, memory, image)
        return self.mix(values, labels, self.listen(memory, found)), found


def keep_regions(
    seed: Seed,
    classes: Int[Tensor, "P"],
    superpixels: Superpixels,
    patches: Sequence[Float[Tensor, "N _D"]] | None,
    grid: tuple[int, int],
) -> ImageRegions:
    """Keep what a memory needs of one image, on the CPU.

    patches: described in one way, or in several that are joined.
    """
    bare = find_bare(superpixels)
    present = classes[classes >= 0].cpu()  # CAMs may hold the background as -1
    scores = torch.ones(len(present) + 1, len(superpixels))  # nothing to choose, or no superpixel
    keys = None
    if patches is not None:
        keys = join_keys(*(pool_keys(part.cpu(), grid, superpixels) for part in patches))
    return ImageRegions(
        keys=keys,
        scores=scores if seed.masks is None else seed.masks.scores.cpu(),
        classes=present,
        rest=seed.labels.cpu().T.flatten()[bare],
        rest_confidence=seed.confidence.cpu().T.flatten()[bare],
    )


def average_regions(first: ImageRegions, second: ImageRegions) -> ImageRegions:
    """Average what two sources say of the superpixels of an image, each divided by its sum.

    Keys, and what lies in no superpixel, are those of the first.

    Raises:
        ValueError: when the two are not about the same superpixels and classes.
    """
    if first.scores.shape != second.scores.shape or not first.classes.equal(second.classes):
        shapes = [tuple(regions.scores.shape) for regions in (first, second)]
        raise ValueError(
            f"scores of shape {shapes[0]} for classes {first.classes.tolist()}, the others of "
            f"{shapes[1]} for {second.classes.tolist()}: they are of other superpixels or labels"
        )
    tiny = torch.finfo(first.scores.dtype).tiny
    values = [each.scores / each.scores.sum(dim=0).clamp_min(tiny) for each in (first, second)]
    return replace(first, scores=(values[0] + values[1]) / 2)


def find_bare(superpixels: Superpixels) -> Int64[Tensor, "U"]:
    """Find the pixels in no superpixel, counted column by column."""
    covered = torch.zeros(superpixels.size[0] * superpixels.size[1], dtype=torch.bool)
    covered[superpixels.pixels()[1]] = True
    return (~covered).nonzero().flatten()


def pool_keys(
    patches: Float[Tensor, "N D"], grid: tuple[int, int], superpixels: Superpixels
) -> Float[Tensor, "M D"]:
    """Average patches over superpixels, each by the share of its cell that a superpixel covers.

    The N patches are the cells of a grid (h, w) laid over the whole image; a pixel belongs to the
    cell that holds its centre. Keys are unit vectors.
    """
    shares = measure_shares(grid, superpixels).to(patches)
    return F.normalize(shares @ patches, dim=1)


def measure_shares(grid: tuple[int, int], superpixels: Superpixels) -> Float[Tensor, "M N"]:
    """Measure which share of each cell of a grid each superpixel covers, without decoding masks."""
    (height, width), (rows, columns) = superpixels.size, grid
    row = (torch.arange(height) * 2 + 1) * rows // (2 * height)
    column = (torch.arange(width) * 2 + 1) * columns // (2 * width)
    cells = (column[:, None] + row[None, :] * columns).flatten()  # of each pixel, by columns

    # runs lie within columns when they are cut where a column ends
    owner, pixels = superpixels.pixels()
    count = rows * columns
    covered = torch.bincount(owner * count + cells[pixels], minlength=len(superpixels) * count)
    sizes = torch.bincount(cells, minlength=count).clamp_min(1)
    return covered.view(len(superpixels), count) / sizes


def join_keys(*halves: Float[Tensor, "M _D"]) -> Float[Tensor, "M _E"]:
    """Join unit vectors so that the cosine is the mean of the cosines of the parts."""
    return torch.cat(halves, dim=1) / len(halves) ** 0.5


def make_values(
    scores: Float[Tensor, "Q M"], labels: Int[Tensor, "P"], classes: int
) -> Float[Tensor, "M R"]:
    """Spread the scores of SAMS (background first) over all classes; rows sum to 1.

    labels: the indices of the present classes, in the order of the scores.
    """
    values = scores.new_zeros(scores.shape[1], classes + 1)
    places = torch.cat([labels.new_zeros(1), labels + 1]).to(scores.device)
    values[:, places] = scores.T
    return values / values.sum(dim=1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)


def build_memory(
    keys: Sequence[Float[Tensor, "_M D"]],
    values: Sequence[Float[Tensor, "_M R"]],
    labels: Sequence[Bool[Tensor, "C"]],
) -> RegionMemory:
    """Build the memory of images that are at hand; large ones are written to disk instead."""
    counts = torch.tensor([len(part) for part in keys])
    return RegionMemory(
        torch.cat(list(keys)).numpy(),
        torch.cat(list(values)).numpy(),
        torch.repeat_interleave(torch.arange(len(keys)), counts),
        torch.stack(list(labels)),
    )
