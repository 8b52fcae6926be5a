"""What a page shows of one image: superpixels, CAMs, seeds, and the mask of the network."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmawsss.files.png import write_palette_png
from fmawsss.files.texts import check_class_names
from fmawsss.networks.segmenter import Segmenter
from fmawsss.records import Batch, SeedPrediction
from fmawsss.resizing import Normaliser, Picture, Resize
from fmawsss.scores import resize_maps
from fmawsss.superpixels import Superpixels
from fmawsss.viz import (
    choose_colours,
    colour_superpixels,
    draw_legend,
    draw_panel,
    make_palette,
    overlay_heatmap,
    overlay_mask,
)
from lightning_modules.learned import load_fitting, read_prompt_names
from lightning_modules.prompts import PromptModule

logger = logging.getLogger(__name__)

DEMO_SIDE = 320  # of a picture, in pixels
HANDWRITTEN = "hand-written"
PartBuilders = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Findings:
    """Pictures of each step (None where nothing was learned), the file of the last mask, a note."""

    superpixels: Picture
    cams: Picture
    seeds: Picture
    network: Picture | None
    mask: str
    note: str


class Analyst:
    """All that can look at an image: superpixels and hand-written prompts, and what was learned.

    builders: build the modules of the stages `superpixels`, `cls` and `seg` for given classes.
    handwritten: builds prompts that need no training.
    checkpoints: where those of `cls`, `seg` and `network` lie, if they exist.
    resize, normalise: how CLIP sees images.
    """

    def __init__(
        self,
        builders: PartBuilders,
        handwritten: Callable[..., Any],
        checkpoints: Mapping[str, str],
        resize: Resize,
        normalise: Normaliser,
    ) -> None:
        # What was learned, and what was not
        found = {name: Path(path) for name, path in checkpoints.items() if Path(path).is_file()}
        missing = [f"{name} ({path})" for name, path in checkpoints.items() if name not in found]
        self.note = ""
        if missing:
            self.note = f"Not trained yet: {', '.join(missing)}. `python train.py` makes them."
            logger.info(self.note)

        # What looks at an image
        self.cut = builders["superpixels"](classes=[]).generator.generate_batch
        self.build, self.handwritten = builders["cls"], handwritten
        learned = [name for name in builders if name in found]
        self.learned = {name: load_prompts(builders[name], found[name]) for name in learned}
        self.segmenter = Segmenter.from_checkpoint(found["network"]) if "network" in found else None
        self.resize, self.normalise = resize, normalise
        self.palette = make_palette(256)
        self.folder = Path(tempfile.mkdtemp(prefix="fmawsss-demo-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def prompts(self) -> list[str]:
        """The prompts to choose from, the best first."""
        return [*reversed(self.learned), HANDWRITTEN]

    @property
    def classes(self) -> list[str]:
        """The classes that something was learned for."""
        names = (name for module in self.learned.values() for name in module.classes)
        return list(dict.fromkeys(names))

    def analyse(self, image: Picture | None, labels: Sequence[str], prompts: str) -> Findings:
        """Take an image apart for the classes that it shows.

        Raises:
            ValueError: without an image or labels, and for classes that the chosen prompts do not
                know.
        """
        if image is None or not labels:
            raise ValueError("an image is needed, and at least one label: tick one or type it")
        check_class_names(labels)

        # Superpixels and seeds
        (superpixels,) = self.cut([image])
        module = self._choose_module(labels, prompts)
        prediction = self._find_seeds(module, image, superpixels, labels)
        seed = prediction.seeds["sams"].labels.cpu().numpy()

        # The network's mask is the last one, where there is a network
        network, mask = None, seed
        if self.segmenter is not None:
            mask = self.segmenter.predict([image])[0].mask
            network = self._draw_mask(image, mask, self.segmenter.classes)
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "mask.png"  # another visitor has another
        write_palette_png(path, mask, self.palette)
        return Findings(
            superpixels=colour_superpixels(superpixels, DEMO_SIDE),
            cams=self._draw_cams(image, prediction, module.classes),
            seeds=self._draw_mask(image, seed, ("background", *module.classes)),
            network=network,
            mask=str(path),
            note=self.note,
        )

    def _choose_module(self, labels: Sequence[str], prompts: str) -> PromptModule:
        """Return the learned prompts of that name, or make hand-written ones for these labels."""
        if prompts == HANDWRITTEN:
            return self.build(
                classes=list(labels), prompt_names=list(labels), prompts=self.handwritten
            ).eval()
        module = self.learned[prompts]
        strange = [label for label in labels if label not in module.classes]
        if strange:
            raise ValueError(
                f"the prompts of {prompts} do not know {', '.join(strange)}: choose {HANDWRITTEN} "
                "prompts"
            )
        return module

    def _find_seeds(
        self, module: PromptModule, image: Picture, superpixels: Superpixels, labels: Sequence[str]
    ) -> SeedPrediction:
        """Turn labels into seeds."""
        seen = torch.from_numpy(self.normalise(self.resize(image))).permute(2, 0, 1)[None]
        batch = Batch(
            names=["image"],
            images=seen,
            sizes=[image.shape[:2]],
            labels=torch.tensor([[name in labels for name in module.classes]]),
            superpixels=[superpixels],
            originals=[image],
        )
        module.on_predict_start()
        return module.predict_step(batch)[0]

    def _draw_cams(
        self, image: Picture, prediction: SeedPrediction, classes: Sequence[str]
    ) -> Picture:
        """Draw the refined CAM of each class, side by side."""
        maps = resize_maps(prediction.refined, image.shape[:2]).clamp_min(0).cpu().numpy()
        names = [classes[index] for index in prediction.classes.tolist()]
        named = zip(names, maps, strict=True)
        heats = [(name, overlay_heatmap(image, heat, alpha=0.7)) for name, heat in named]
        return draw_panel([heats], DEMO_SIDE)

    def _draw_mask(self, image: Picture, mask: np.ndarray, classes: Sequence[str]) -> Picture:
        """Draw a mask over the image, with the names of its classes."""
        palette = choose_colours(len(classes) - 1)
        overlay = overlay_mask(image, mask, palette, alpha=0.6)
        panel = draw_panel([[("", overlay)]], DEMO_SIDE)
        return np.concatenate([panel, draw_legend(classes, palette, panel.shape[1])])


def load_prompts(build: Callable[..., PromptModule], path: Path) -> PromptModule:
    """Build the prompts of a checkpoint, for the classes that they were learned for."""
    classes, prompt_names = read_prompt_names(path)
    module = build(classes=classes, prompt_names=prompt_names)
    load_fitting(path, module)
    return module.eval()
