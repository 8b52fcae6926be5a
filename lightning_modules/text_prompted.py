"""Seeds from models that segment what phrases name, asked for present classes (METHOD 11.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from fmawsss.files.texts import name_first
from fmawsss.records import Batch, Captioned, Palette, Prediction, lay_masks, list_regions
from fmawsss.resizing import Picture
from fmawsss.scores import resize_maps
from fmawsss.seeding import Seed, Seeder
from fmawsss.superpixels import Superpixels
from fmawsss.text_prompted.instances import FoundClass
from fmawsss.text_prompted.maps import Certainty, Found, TextSource, map_class
from fmawsss.text_prompted.phrases import list_phrases
from fmawsss.viz import overlay_heatmap
from lightning_modules.seeds import fetch_seeds

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TextPrediction(Prediction):
    """The maps of present classes of one image, and the seeds made of them.

    cams: the maps, 0…1.
    seeds: `text`, pixel by pixel, and `sams`, pooled on superpixels, where there are any.
    objects: how many were found of each class, and the best score.
    found: the objects themselves, if they are kept.
    """

    name: str
    classes: Int[Tensor, "P"]
    cams: Float[Tensor, "P h w"]
    seeds: Mapping[str, Seed]
    objects: Sequence[tuple[int, float]]
    superpixels: Superpixels | None
    found: Sequence[FoundClass] | None
    patches: ClassVar[None] = None  # no encoder of keys saw the image

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the seeds, the product last."""
        kinds = [kind for kind in ("sams", "text") if kind in self.seeds]
        return {kind: self.seeds[kind].labels for kind in kinds}

    def facts(self) -> dict[str, Any]:
        """Describe the regions of each seed, and how many objects were found of each class."""
        regions = {
            kind: list_regions(mask, self.seeds[kind].confidence)
            for kind, mask in self.masks().items()  # the product last, which is kept
        }
        pairs = zip(self.classes.tolist(), self.objects, strict=True)
        found = [[number, count, round(best, 3)] for number, (count, best) in pairs]
        return {"regions": regions, "objects": found}

    def draw(self, image: Picture, classes: Sequence[str], palette: Palette) -> list[Captioned]:
        """Draw the map of the first present class, then the seeds."""
        pictures: list[Captioned] = []
        if len(self.classes):
            first = ("background", *classes)[int(self.classes[0]) + 1]
            heat = resize_maps(self.cams[:1], image.shape[:2])[0].cpu().numpy()
            pictures.append((f"map of {first}", overlay_heatmap(image, heat, alpha=0.7)))
        return pictures + lay_masks(self.masks(), image, palette)


class TextPromptedModule(L.LightningModule):
    """Ask a model for the present classes of each image, and make seeds of what it finds.

    source: finds what phrases name.
    certainty: how sure the objects of a class are, for the class is there.
    phrases: of classes, by name; None, and classes that are left out, take prompt names.
    seeding: makes `text` of the maps and, where there are superpixels, `sams`.
    keep_instances: whether predictions carry the objects themselves (callbacks=instances).

    Raises:
        ValueError: for phrases that fit neither the classes nor the model.
    """

    learned_by: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[tuple[str, ...]] = ("text prompts",)

    def __init__(
        self,
        source: TextSource,
        certainty: Certainty,
        phrases: Any,
        seeding: Mapping[str, Seeder],
        classes: Sequence[str],
        prompt_names: Sequence[str],
        keep_instances: bool = False,
    ) -> None:
        super().__init__()
        self.source = source.requires_grad_(False) if isinstance(source, nn.Module) else source
        self.certainty = certainty
        self.seeding = seeding
        self.keep_instances = keep_instances
        self.classes = tuple(classes)
        self.phrases = list_phrases(classes, prompt_names, phrases)
        for phrase in {phrase for own in self.phrases for phrase in own}:
            source.check_phrase(phrase)
        self.not_found: list[str] = []  # images with a class of which nothing was found

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[TextPrediction]:
        """Make the seeds of each image of the batch."""
        return [self._predict_image(batch, index) for index in range(len(batch))]

    def on_predict_end(self) -> None:
        """Say of which images a class was not found."""
        if self.not_found:
            logger.warning(
                "%d images show a class of which no object was sure enough (module.source."
                "least_score), e.g. %s; what their seeds show of it, if anything, is what the "
                "model says of the phrase as a whole",
                len(self.not_found),
                name_first(self.not_found),
            )

    def _predict_image(self, batch: Batch, index: int) -> TextPrediction:
        assert batch.labels is not None
        assert batch.originals is not None
        image, size = batch.originals[index], batch.sizes[index]
        superpixels = None if batch.superpixels is None else batch.superpixels[index]
        classes = batch.labels[index].nonzero().flatten().cpu()

        # what is found of each present class
        asked = [self.phrases[number] for number in classes.tolist()]
        phrases = [phrase for own in asked for phrase in own]
        answers = iter(self.source.find(image, phrases) if phrases else [])
        found = [self.certainty([next(answers) for _ in own]) for own in asked]

        # its map, and the seeds
        none = torch.zeros(0, 1, 1, device=self.device)
        maps = torch.stack([map_class(each) for each in found]) if found else none
        if not maps.isfinite().all():
            raise ValueError(
                f"what the model says of {batch.names[index]} is no number (NaN or infinity): its "
                "weights are broken, or precision is too low; set trainer.precision=32-true"
            )
        seeds = {
            kind: seeder(maps, classes, superpixels, size, torch.from_numpy(image))
            for kind, seeder in self.seeding.items()
            if kind != "sams" or superpixels is not None
        }
        objects = [count_objects(each) for each in found]
        if any(count == 0 for count, _ in objects):
            self.not_found.append(batch.names[index])
        kept = list_found(classes, asked, found) if self.keep_instances else None
        return TextPrediction(
            batch.names[index], classes, maps, fetch_seeds(seeds), objects, superpixels, kept
        )


def count_objects(found: Sequence[Found]) -> tuple[int, float]:
    """Count the objects of a class, and return their best score, 0 without any."""
    scores = torch.cat([each.scores for each in found]).tolist()
    return len(scores), max(scores, default=0.0)


def list_found(
    classes: Int[Tensor, "P"], phrases: Sequence[Sequence[str]], found: Sequence[Sequence[Found]]
) -> list[FoundClass]:
    """List what was found of each class, on the CPU."""
    pairs = zip(classes.tolist(), phrases, found, strict=True)
    return [
        FoundClass(number + 1, own, list(map(fetch_found, each))) for number, own, each in pairs
    ]


def fetch_found(found: Found) -> Found:
    """Copy the objects of a phrase to the CPU."""
    return Found(found.masks.float().cpu(), found.scores.cpu(), found.boxes.cpu(), None)
