"""What a page shows of one image: superpixels, CAMs, seeds, and the mask of the network."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from fmawsss.files.png import write_palette_png, write_png
from fmawsss.files.texts import check_class_names
from fmawsss.networks.segmenter import Segmenter, count_pixels
from fmawsss.records import Batch, SeedPrediction
from fmawsss.resizing import Normaliser, Picture, Resize
from fmawsss.scores import resize_maps
from fmawsss.superpixels import Superpixels
from fmawsss.tiny.shapes import CLASS_NAMES, draw_scene, present_classes
from fmawsss.viz import (
    choose_colours,
    colour_superpixels,
    draw_legend,
    draw_panel,
    fit_image,
    make_palette,
    overlay_heatmap,
    overlay_mask,
)
from lightning_modules.learned import load_fitting, read_prompt_names
from lightning_modules.prompts import PromptModule
from stages.reports.report import RunFolder

logger = logging.getLogger(__name__)

DEMO_SIDE = 320  # of a picture, in pixels
EXAMPLES = 4
HANDWRITTEN = "hand-written"
PartBuilders = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Layer:
    """A mask to lay over its image, and what its values mean, the background first."""

    mask: UInt8[np.ndarray, "H W"]
    classes: tuple[str, ...]

    def draw(self, image: Picture, opacity: float) -> Picture:
        """Draw it over the image, with the names of its classes."""
        palette = choose_colours(len(self.classes) - 1)
        overlay = overlay_mask(image, self.mask, palette, opacity)
        panel = draw_panel([[("", overlay)]], DEMO_SIDE)
        return np.concatenate([panel, draw_legend(self.classes, palette, panel.shape[1])])

    def write_areas(self) -> str:
        """Write the share of each class, the largest first."""
        pixels = count_pixels(self.mask, self.classes)
        largest = sorted(pixels.items(), key=lambda one: -one[1])
        return ", ".join(f"{name} {100 * count / self.mask.size:.1f} %" for name, count in largest)


@dataclass(frozen=True)
class Findings:
    """What was found in an image.

    cams: refined CAMs, each with its class. layers: the seed and, where a network was learned, its
    mask. files: these as PNGs with the photo's name. areas: a line for each of them.
    """

    image: Picture
    superpixels: Picture
    cams: list[tuple[Picture, str]]
    layers: dict[str, Layer]
    files: list[str]
    areas: str
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
        self.work = Path(next(iter(checkpoints.values()))).parent
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

    def list_examples(self) -> list[tuple[str, list[str]]]:
        """List photos with their labels: those that stages learned from, else generated ones."""
        if self.classes:
            return list(islice(find_examples(self.work, self.classes), EXAMPLES))
        return [draw_example(number, self.folder) for number in range(EXAMPLES)]

    def analyse(
        self, image: Picture | None, labels: Sequence[str], prompts: str, name: str = "image"
    ) -> Findings:
        """Take an image apart for the classes that it shows; `name` is that of the photo.

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
        layers = {"seed": Layer(seed, ("background", *module.classes))}
        if self.segmenter is not None:
            found = self.segmenter.predict([image])[0]
            layers["network"] = Layer(found.mask, found.classes)
        folder = Path(tempfile.mkdtemp(dir=self.folder))  # another visitor has another
        files = {kind: folder / f"{name}_{kind}.png" for kind in layers}
        for kind, path in files.items():
            write_palette_png(path, layers[kind].mask, self.palette)
        return Findings(
            image=image,
            superpixels=colour_superpixels(superpixels, DEMO_SIDE),
            cams=self._draw_cams(image, prediction, module.classes),
            layers=layers,
            files=list(map(str, files.values())),
            areas="\n".join(f"{kind}: {layer.write_areas()}" for kind, layer in layers.items()),
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
    ) -> list[tuple[Picture, str]]:
        """Draw the refined CAM of each class."""
        maps = resize_maps(prediction.refined, image.shape[:2]).clamp_min(0).cpu().numpy()
        names = [classes[index] for index in prediction.classes.tolist()]
        named = zip(names, maps, strict=True)
        seen = fit_image(image, DEMO_SIDE)
        return [(overlay_heatmap(seen, heat, alpha=0.7), name) for name, heat in named]


def load_prompts(build: Callable[..., PromptModule], path: Path) -> PromptModule:
    """Build the prompts of a checkpoint, for the classes that they were learned for."""
    classes, prompt_names = read_prompt_names(path)
    module = build(classes=classes, prompt_names=prompt_names)
    load_fitting(path, module)
    return module.eval()


def find_examples(work: Path, classes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Give photos that stages saw, with labels that are among the classes."""
    folder = RunFolder(work)
    for stage in folder.stages:
        names = stage.classes[1:]
        for line in folder.read_lines(stage).list_with("labels"):
            labels = [names[label] for label in line["labels"] or () if label < len(names)]
            if labels and set(labels) <= set(classes) and Path(line.get("image") or "").is_file():
                yield str(line["image"]), labels


def draw_example(number: int, folder: Path) -> tuple[str, list[str]]:
    """Draw a generated photo."""
    scene = draw_scene(np.random.default_rng(number))
    path = folder / f"example_{number + 1}.png"
    write_png(path, scene.image)
    return str(path), [CLASS_NAMES[index] for index in present_classes(scene)]
