"""Neighbours in a memory that is too large to be compared whole: an index by faiss, approximate.

The index holds half a byte for every four numbers of a key, in cells of which the nearest are
looked through, among the images that share a label. What it proposes is compared exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fmawsss.memory import MemoryReader, Neighbours, RegionMemory
from fmawsss.memory_search import Question, find_none

SAMPLES = 64  # superpixels for each cell, of which the cells are learned
PART = 4  # numbers of a key that become one code
FEWEST = 8  # cells that are looked through


@dataclass(frozen=True, eq=False)
class RegionIndex:
    """An index of all superpixels of a memory.

    share: of the cells that is looked through.
    proposed: how many superpixels are compared exactly, for each neighbour.
    """

    index: Any
    memory: RegionMemory
    share: float = 1 / 16
    proposed: int = 8

    def find(self, question: Question, reader: MemoryReader) -> Neighbours:
        """Find the neighbours of the superpixels of one image, most of them; -1 where one lacks."""
        memory, keys = self.memory, question.keys
        if not memory.knows(question.labels, question.image, reader.least):
            return find_none(question)
        faiss = load_faiss()
        chosen = memory.select_sharing(question.labels, question.image).numpy()
        search = faiss.SearchParametersIVF(
            nprobe=max(FEWEST, round(self.share * self.index.nlist)),
            sel=faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little")),
        )
        count = reader.neighbours * self.proposed
        _, rows = self.index.search(pad_keys(keys.cpu()).numpy(), count, params=search)
        return compare(keys, memory, torch.from_numpy(rows), reader.neighbours)


def compare(
    keys: Float[Tensor, "M D"], memory: RegionMemory, rows: Int64[Tensor, "M J"], neighbours: int
) -> Neighbours:
    """Find the nearest of some rows of the memory for each superpixel; those of -1 come last."""
    held, places = rows.clamp_min(0).unique(return_inverse=True)
    block = torch.from_numpy(np.asarray(memory.keys[held.numpy()])).to(keys)
    cosines = (keys @ block.T).gather(1, places.to(keys.device))
    cosines[(rows < 0).to(keys.device)] = -torch.inf
    cosines, best = cosines.topk(min(neighbours, rows.shape[1]), dim=1)
    return Neighbours(rows.gather(1, best.cpu()), cosines)


def build_index(memory: RegionMemory, block: int) -> RegionIndex:
    """Build the index, a block of the memory at a time.

    Raises:
        ModuleNotFoundError: naming what to install, without faiss.
    """
    faiss = load_faiss()
    size, width = memory.keys.shape
    cells = max(1, min(round(size**0.5), size // SAMPLES))
    padded = width + -width % PART
    layout = f"IVF{cells},PQ{padded // PART}x4fs"
    index = faiss.index_factory(padded, layout, faiss.METRIC_INNER_PRODUCT)
    index.train(read_rows(memory, np.linspace(0, size - 1, min(size, SAMPLES * cells)).astype(int)))
    for first in range(0, size, block):
        index.add(read_rows(memory, np.arange(first, min(first + block, size))))
    return RegionIndex(index, memory)


def read_rows(memory: RegionMemory, rows: np.ndarray) -> np.ndarray:
    """Read some keys as faiss takes them."""
    return pad_keys(torch.from_numpy(np.asarray(memory.keys[rows], np.float32))).numpy()


def pad_keys(keys: Float[Tensor, "M D"]) -> Float[Tensor, "M E"]:
    """Add zeros until the length can be divided."""
    return torch.nn.functional.pad(keys, (0, -keys.shape[1] % PART)).contiguous()


def load_faiss() -> ModuleType:
    """Import faiss; raises ModuleNotFoundError that says what to install."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"memory.exact_up_to= asks an index of faiss, which is not there ({error}): pip "
            'install -e ".[index]", or memory.exact_up_to=null to compare everything, which takes '
            "longer"
        ) from error
    return faiss
