"""The records that all rooms speak in: images, CAMs, batches, and what is predicted of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from fmawsss.agreement import measure_agreement
from fmawsss.clip.pairs import Pairs, list_pairs
from fmawsss.files.image_records import ImageRecord as ImageRecord
from fmawsss.resizing import Picture
from fmawsss.scores import resize_maps
from fmawsss.seeding import Seed
from fmawsss.superpixels import Superpixels, describe_superpixels
from fmawsss.viz import (
    PANEL_SIDE,
    colour_levels,
    colour_superpixels,
    overlay_heatmap,
    overlay_mask,
)

Palette: TypeAlias = UInt8[np.ndarray, "R 3"]
Captioned: TypeAlias = tuple[str, Picture]

PROBABLE = 3  # classes that the journal notes, beside the labelled ones
RIVALS = 3  # background words that it notes


@dataclass(frozen=True, eq=False)
class Cams:
    """The CAMs of the P classes present in one image."""

    maps: Float[Tensor, "P h w"]
    classes: Int64[Tensor, "P"]  # indices of foreground classes, from 0
    attention: Float[Tensor, "N N"] | None  # what an affinity needs, if it was stored
    recipe: str | None = None  # the settings of the stage that made them, cls_voc; None: not known


@dataclass(frozen=True)
class Batch:
    """Samples side by side; smaller images are padded on the right and below.

    `labels` are multi-hot; `seeds` hold 0 for background, class index + 1, and 255 for pixels to
    ignore; `trusted` marks those that a person has corrected. The lists are parallel to `names`; a
    truth is None where none is known, and stays on the CPU, where masks are scored. `sizes` are
    those of `originals`, `on_disk` those of the images that these may be smaller copies of. Fixed
    views carry their numbers, `views`; `encoded` is what a frozen encoder made of them before, and
    stands for `images`.
    """

    names: list[str]
    images: Float[Tensor, "B 3 H W"] | None
    sizes: list[tuple[int, int]]
    on_disk: list[tuple[int, int]] | None = None
    padding: Bool[Tensor, "B H W"] | None = None
    labels: Bool[Tensor, "B C"] | None = None
    seeds: UInt8[Tensor, "B H W"] | None = None
    confidence: UInt8[Tensor, "B H W"] | None = None
    clearance: UInt8[Tensor, "B H W"] | None = None
    trusted: Bool[Tensor, "B H W"] | None = None
    truths: list[UInt8[Tensor, "_ _"] | None] | None = None
    superpixels: list[Superpixels] | None = None
    cams: list[Cams] | None = None
    originals: list[UInt8[np.ndarray, "_ _ 3"]] | None = None
    views: list[int] | None = None
    encoded: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def pairs(self) -> Pairs:
        """The present pairs of the labels, listed before the batch moves to a device."""
        assert self.labels is not None
        return list_pairs(self.labels)

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device what it computes with; truths stay, for masks are scored on the CPU."""
        # A copy back to the CPU must be complete when it is read.
        overlap = torch.device(device).type != "cpu"
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=overlap))

    def pin_memory(self) -> Batch:
        """Move the tensors to page-locked memory, as the data loader asks."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {}
        moving = ("images", "padding", "labels", "seeds", "confidence", "clearance", "trusted")
        for field in moving:
            if getattr(self, field) is not None:
                changed[field] = change(getattr(self, field))
        if self.encoded is not None:
            changed["encoded"] = {name: change(value) for name, value in self.encoded.items()}
        moved = replace(self, **changed)
        if self.labels is not None:
            moved.__dict__["pairs"] = self.pairs.map_tensors(change)
        return moved


@runtime_checkable
class Prediction(Protocol):
    """What a stage predicts of one image: all that journals, pictures and reports ask for.

    A subclass inherits empty answers and overrides those that it can give.
    """

    name: str

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the label maps to score, by kind; the last one is the product."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return what the journal notes of the image, as plain data."""
        return {}

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Draw the prediction of an image; `classes` are foreground classes, in palette order."""
        return []

    def kept_cams(self) -> dict[str, Cams]:
        """Return the CAMs that may be kept, by kind, on the CPU."""
        return {}


@dataclass(frozen=True, eq=False)
class SeedPrediction(Prediction):
    """CAMs, refined CAMs, and the seeds made of them: `cam`, `caa` and, with superpixels, `sams`.

    `probabilities` are those of each class against the others, labelled or not, `background` those
    of the background words against the labelled classes, as a CAM compares them; `patches`
    computes, when it is called, what the encoder knew of each cell of the CAMs.
    """

    name: str
    classes: Int[Tensor, "P"]
    cams: Float[Tensor, "P h w"]
    attention: Float[Tensor, "N N"] | None
    refined: Float[Tensor, "P h w"]
    seeds: Mapping[str, Seed]
    probabilities: Float[Tensor, "C"] | None = None
    superpixels: Superpixels | None = None
    patches: Callable[[], list[Float[Tensor, "N _D"]]] | None = None
    background: Mapping[str, float] | None = None

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the seeds, by the step that made them."""
        return {kind: seed.labels for kind, seed in self.seeds.items()}

    def facts(self) -> dict[str, Any]:
        """Describe the regions of each seed, how well seeds agree, and the probable classes."""
        regions = {k: list_regions(seed.labels, seed.confidence) for k, seed in self.seeds.items()}
        facts: dict[str, Any] = {"agreement": self._find_agreement(), "regions": regions}
        if self.probabilities is not None:
            facts["probable"] = list_classes(self.probabilities, self.classes)
        if self.background:
            words = sorted(self.background, key=self.background.__getitem__, reverse=True)
            facts["rivals"] = [[w, round(self.background[w], 3)] for w in words[:RIVALS]]
        return facts

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Draw CAM and refined CAM of the first present class, then the seed of each step."""
        pictures: list[Captioned] = []
        if len(self.classes):
            first = ("background", *classes)[int(self.classes[0]) + 1]
            for caption, maps in ((f"CAM {first}", self.cams), ("+ affinity", self.refined)):
                heat = resize_maps(maps[:1], image.shape[:2])[0].clamp_min(0).cpu().numpy()
                pictures.append((caption, overlay_heatmap(image, heat, alpha=0.7)))
        return pictures + lay_masks(self.masks(), image, palette)

    def kept_cams(self) -> dict[str, Cams]:
        """Return the CAMs with the attention, and the refined CAMs."""
        classes = self.classes.cpu()
        attention = None if self.attention is None else self.attention.cpu()
        return {
            "CAM": Cams(self.cams.cpu(), classes, attention),
            "refined CAM": Cams(self.refined.cpu(), classes, None),
        }

    def _find_agreement(self) -> float | None:
        """Measure how well the seed on superpixels agrees with the one before; None without it."""
        if not {"sams", "caa"} <= set(self.seeds):
            return None
        masks = self.masks()
        return measure_agreement(masks["sams"], masks["caa"], self.classes)


@dataclass(frozen=True, eq=False)
class MaskPrediction(Prediction):
    """The mask of one image at its own size, and how probable the class of each pixel is."""

    name: str
    mask: UInt8[Tensor, "H W"]  # 0 background, else class index + 1
    confidence: Float[Tensor, "H W"]

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the mask."""
        return {"network": self.mask}

    def facts(self) -> dict[str, Any]:
        """Describe the regions of the mask."""
        return {"regions": {"network": list_regions(self.mask, self.confidence)}}

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Lay the mask over the image."""
        return lay_masks(self.masks(), image, palette)


@dataclass(frozen=True, eq=False)
class SuperpixelPrediction(Prediction):
    """The quasi-superpixels of one image; they carry no classes, so there is nothing to score.

    finish: makes them when they are first asked for, by writers behind the device.
    """

    name: str
    finish: Callable[[], Superpixels]

    @cached_property
    def superpixels(self) -> Superpixels:
        """The superpixels, cleaned and coded."""
        return self.finish()

    def facts(self) -> dict[str, Any]:
        """Describe the superpixels."""
        return {"superpixels": describe_superpixels(self.superpixels)}

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Draw the superpixels, and their levels."""
        return [
            ("superpixels", colour_superpixels(self.superpixels, PANEL_SIDE)),
            ("levels", colour_levels(self.superpixels, PANEL_SIDE)),
        ]


@dataclass(frozen=True)
class LabelProposal(Prediction):
    """The labels proposed for one image with their probabilities, the most probable first."""

    name: str
    probabilities: dict[str, float]

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Write the labels above the image."""
        labels = [f"{label} {value:.2f}" for label, value in self.probabilities.items()]
        return [(", ".join(labels) or "no label", image)]


@dataclass(frozen=True, eq=False)
class TemplateAnswer(Prediction):
    """The logits of the classes present in one image, a row for each of S templates."""

    name: str
    logits: Float[Tensor, "S P"]


def list_classes(probabilities: Float[Tensor, "C"], labels: Int[Tensor, "P"]) -> list[list[float]]:
    """List (class, probability) of the labelled classes and of the most probable others."""
    top = probabilities.topk(min(PROBABLE, len(probabilities))).indices.tolist()
    chosen = dict.fromkeys([*labels.tolist(), *top])
    return [[index, round(probabilities[index].item(), 3)] for index in chosen]


def list_regions(mask: UInt8[Tensor, "H W"], confidence: Float[Tensor, "H W"]) -> list[list[float]]:
    """List (value, share of the image, mean confidence) for each value of a mask, ascending.

    >>> mask = torch.tensor([[0, 0, 2, 2]], dtype=torch.uint8)
    >>> list_regions(mask, torch.tensor([[1.0, 0.5, 0.25, 0.25]]))
    [[0, 0.5, 0.75], [2, 0.5, 0.25]]
    """
    values = mask.flatten().long()
    pixels = torch.bincount(values)
    summed = torch.bincount(values, weights=confidence.flatten().double())
    regions = []
    for value in pixels.nonzero().flatten().tolist():
        share = round(pixels[value].item() / len(values), 4)
        regions.append([value, share, round((summed[value] / pixels[value]).item(), 4)])
    return regions


def lay_masks(masks: dict[str, Tensor], image: Picture, palette: Palette) -> list[Captioned]:
    """Lay each mask over the image, under the name of its kind."""
    return [
        (kind, overlay_mask(image, mask.cpu().numpy(), palette, alpha=0.6))
        for kind, mask in masks.items()
    ]
