"""Seeds once more: superpixels explained by their look-alikes in other images (METHOD 11.1)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fmawsss.files.regions import (
    Averaged,
    find_stamp,
    read_memory,
    read_pair,
    read_regions,
    require_superpixels,
    value_regions,
)
from fmawsss.files.storage import read_superpixels
from fmawsss.files.texts import name_first
from fmawsss.memory import ImageRegions, MemoryReader, Neighbours, RegionMemory
from fmawsss.memory_index import RegionIndex, build_index, load_faiss
from fmawsss.memory_search import Question, find_together
from fmawsss.metrics import IGNORE
from fmawsss.records import Batch
from fmawsss.seeding import Priority
from fmawsss.superpixels import Superpixels
from fmawsss.trust import weigh_background
from lightning_modules.calibration import Corrected, calibrate
from lightning_modules.corrected_regions import CorrectedRegions, correct_regions, lay_over
from lightning_modules.memory_seeds import MemoryPrediction, paint_regions

logger = logging.getLogger(__name__)

SHOWN = 6  # neighbours of a superpixel, for people


class MemoryModule(L.LightningModule):
    """Explain the superpixels of images by a memory of others, and paint seeds anew.

    memory: how neighbours are found and mixed.
    priority: what paints over what, as in the seeds before.
    superpixels: the folder of the superpixels.
    regions: the folder of what those seeds kept of them; `keys` holds the keys, often the same.
    averaged: the folder of another source, whose scores are averaged with these; None for none.
    split: the images that the memory is made of; `list_images` lists their names.
    store: a folder for the memory's temporary files.
    block: superpixels that are compared at a time, of the images as of the memory; bounds what the
        main memory must hold.
    corrected: a folder of masks that a person has corrected: they are exact, and trusted.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("region memory",)

    def __init__(
        self,
        classes: Sequence[str],
        list_images: Callable[[str], Sequence[str]],
        memory: MemoryReader,
        priority: Sequence[Priority],
        split: str,
        superpixels: str | Path,
        regions: str | Path,
        keys: str | Path | None,
        store: str | Path,
        block: int,
        averaged: str | Path | None = None,
        corrected: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.list_images = list_images
        self.reader = memory
        self.priority = priority
        self.split = split
        self.superpixels = Path(superpixels)
        self.regions = Path(regions)
        self.keys = Path(keys or regions)
        self.store = Path(store)
        self.block = block
        self.other = None if averaged is None else Path(averaged)
        self.corrected = CorrectedRegions.open(corrected, self.classes, self.superpixels)
        if memory.exact_up_to is not None:
            load_faiss()  # or say now that it is missing

    def on_predict_start(self) -> None:
        """Read the memory, once for the whole run, and see which images come."""
        for folder in filter(None, (self.regions, self.keys, self.other)):
            require_superpixels(folder, self.superpixels)
        other = self.other
        self.averaged = None if other is None else Averaged(other, find_stamp(other))
        self.stamps = find_stamp(self.regions), find_stamp(self.keys)
        self.names = names = list(self.list_images(self.split))
        self.numbers = {name: number for number, name in enumerate(names)}
        self.memory: RegionMemory = read_memory(
            self.regions,
            self.keys,
            names,
            len(self.classes),
            self.store,
            self.averaged,
            self.corrected.value,
        )
        logger.info("a memory of %d superpixels in %d images", len(self.memory.keys), len(names))
        self.alone: list[str] = []
        self.unlabelled: list[str] = []
        batches = self.trainer.predict_dataloaders.dataset.batches
        self.coming = deque(record.name for batch in batches for record in batch)
        self.found: dict[str, Neighbours] = {}
        if self._are_large(self.memory.labels).any():
            _ = self.index
        self.factor = self._calibrate()

    @cached_property
    def index(self) -> RegionIndex:
        """The index of the memory, for images that would be compared with too much of it."""
        return build_index(self.memory, self.block)

    def _calibrate(self) -> float:
        """Let the corrected images of the memory say how much the background counts."""

        def read(name: str) -> Corrected:
            trusted = self.corrected.read(name)
            assert trusted is not None
            superpixels = read_superpixels(self.superpixels / f"{name}.npz")
            found = self._find({name: self._ask(name)})[name]
            return Corrected(self._read_regions(name), superpixels, found, trusted)

        names = [name for name in self.names if self.corrected.has(name)]
        return calibrate(names, read, self.memory, self.reader, self.priority, len(self.classes))

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[MemoryPrediction]:
        """Explain the superpixels of each image of the batch."""
        assert batch.superpixels is not None, "a memory needs superpixels"
        return [
            self._predict_image(name, superpixels)
            for name, superpixels in zip(batch.names, batch.superpixels, strict=True)
        ]

    def on_predict_end(self) -> None:
        """Say which images show a class that too few others do, or that no label names."""
        if self.alone:
            logger.warning(
                "%d images show a class that fewer than %d other images of the memory show, "
                "and keep their seeds, e.g. %s",
                len(self.alone),
                self.reader.least,
                ", ".join(self.alone[:5]),
            )
        if self.unlabelled:
            logger.warning(
                "corrected masks of %d images show a class that their labels lack, which counts: "
                "%s; correct the labels, too, for what is learned without masks",
                len(self.unlabelled),
                name_first(self.unlabelled),
            )

    def _predict_image(self, name: str, superpixels: Superpixels) -> MemoryPrediction:
        regions = self._read_regions(name)
        if regions.scores.shape[1] != len(superpixels):
            raise ValueError(
                f"{self.regions / name}.npz holds {regions.scores.shape[1]} regions, the image "
                f"{len(superpixels)} superpixels: make both again, `python infer.py task=cls "
                "callbacks=regions overwrite=true`"
            )
        if name not in self.found:
            self._look_ahead()
        found = self.found.pop(name)
        own, labels = value_regions(name, regions, len(self.classes))
        trusted = self.corrected.read(name)
        if trusted is not None:
            own, shown = correct_regions(own, labels, trusted, superpixels)
            if (shown & ~labels).any():
                self.unlabelled.append(name)
            labels = shown
        own = own.to(self.device)
        told = self.reader.listen(self.memory, found)
        scores = weigh_background(self.reader.mix(own, labels, told), self.factor)

        # the seed before, and the one that the memory makes of it
        before = after = paint_regions(regions.scores, regions, superpixels, self.priority)
        if found.rows.numel() or trusted is not None:
            regions = replace(regions, classes=labels.nonzero().flatten())
            present = torch.cat([torch.zeros(1, dtype=torch.long), regions.classes + 1])
            after = paint_regions(scores.cpu()[:, present].T, regions, superpixels, self.priority)
        most = shown = share = None
        if found.rows.numel():
            most = told[:, 1:].amax(dim=0).cpu()
            shown = self._show(own.cpu(), scores.cpu(), superpixels, found)
        elif len(superpixels) and labels.any():
            self.alone.append(name)

        # what a person has corrected
        seeds = {"sams": before, "memory": after}
        if trusted is not None:
            seeds = lay_over(seeds, trusted)
            share = (trusted != IGNORE).float().mean().item()
        return MemoryPrediction(
            name, regions.classes, seeds, most, shown, share, background=self.factor
        )

    def _read_regions(self, name: str) -> ImageRegions:
        """Read what was kept of an image, averaged with what another source has of it."""
        regions = read_regions(self.regions / f"{name}.npz")
        return regions if self.averaged is None else self.averaged.join(regions, name)

    def _show(
        self,
        own: Float[Tensor, "M R"],
        scores: Float[Tensor, "M R"],
        superpixels: Superpixels,
        found: Neighbours,
    ) -> dict[str, Any]:
        """Choose the largest superpixel that changed, or the largest, and list its neighbours.

        Of each: image, number within the image, cosine, what it was taken for.
        """
        before, after = own.argmax(dim=1), scores.argmax(dim=1)
        chosen = int(((before != after) * superpixels.area.sum() + superpixels.area).argmax())
        rows = found.rows[chosen, :SHOWN]
        rows = rows[rows >= 0]
        owners = self.memory.owners[rows]
        numbers = rows - torch.searchsorted(self.memory.owners, owners)
        values = self.memory.values[rows.numpy()].argmax(axis=1)
        cosines = found.cosines[chosen, :SHOWN].tolist()
        return {
            "superpixel": chosen,
            "before": int(before[chosen]),
            "after": int(after[chosen]),
            "found": [
                [self.names[owner], number, round(cosine, 3), int(value)]
                for owner, number, cosine, value in zip(
                    owners.tolist(), numbers.tolist(), cosines[: len(rows)], values, strict=True
                )
            ],
        }

    def _look_ahead(self) -> None:
        """Find the neighbours of the images that come next, together."""
        questions: dict[str, Question] = {}
        superpixels = 0
        while self.coming and superpixels < self.block:
            name = self.coming.popleft()
            questions[name] = self._ask(name)
            superpixels += len(questions[name].keys)

        self.found |= self._find(questions)

    def _find(self, questions: Mapping[str, Question]) -> dict[str, Neighbours]:
        """Find neighbours in the whole memory, or an index of it."""
        exact, found = [], {}
        for name, question in questions.items():
            if self._are_large(question.labels):
                found[name] = self.index.find(question, self.reader)
            else:
                exact.append(name)
        asked = [questions[name] for name in exact]
        together = find_together(asked, self.memory, self.reader, self.block) if asked else []
        return found | dict(zip(exact, together, strict=True))

    def _ask(self, name: str) -> Question:
        """Ask for the neighbours of an image, as the memory or else its files describe it."""
        number = self.numbers.get(name)
        if number is None:
            regions, keys = read_pair(self.regions, self.keys, name, *self.stamps, self.averaged)
            labels = self.corrected.show(name, regions, len(self.classes))
        else:
            keys, labels = self.memory.read_keys(number), self.memory.labels[number]
        return Question(keys.to(self.device), labels, number)

    def _are_large(self, labels: Bool[Tensor, "*I C"]) -> Bool[Tensor, "*I"]:
        """Say which images of some classes would be compared with too many superpixels."""
        limit = self.reader.exact_up_to
        compared = self.memory.count_compared(labels)
        return torch.zeros_like(compared).bool() if limit is None else compared > limit
