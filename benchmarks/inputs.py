"""What benchmarks run on: CLIP of random weights, modules of the recipes, batches, superpixels."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import open_clip
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from jaxtyping import Bool, UInt8
from omegaconf import DictConfig
from torch import Tensor

from fmawsss.records import Batch
from fmawsss.superpixels import Superpixels, encode_masks
from lightning_modules.prompts import PromptModule
from stages.words import translate

CONF = Path(__file__).parents[1] / "conf"
sys.path.append(str(CONF))  # Hydra finds our options there, in `hydra_plugins`
SMALL = {  # of CLIP's architecture, for --quick
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    "quick_gelu": True,
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    clip: str  # a model of open_clip, or `small`
    crop: int  # side of a training image
    image: tuple[int, int]  # height, width of an image to seed
    superpixels: int
    grids: tuple[tuple[int, int], ...]  # patch grids to refine on


PAPER = Sizes("ViT-B-16-quickgelu", 224, (375, 500), 300, ((24, 32), (40, 40)))
QUICK = Sizes("small", 64, (94, 125), 30, ((6, 8), (10, 10)))


@dataclass(frozen=True)
class Setting:
    """What all parts share."""

    sizes: Sizes
    batch: int  # images of an optimiser step
    device: torch.device
    threads: int


@cache
def build_clip(name: str) -> open_clip.CLIP:
    """Build CLIP with random weights, and the scale of the logits that training ends with."""
    torch.manual_seed(0)
    clip = (
        open_clip.CLIP(**SMALL)
        if name == "small"
        else open_clip.create_model(name, pretrained=None)
    )
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(100))
        for block in clip.visual.transformer.resblocks:
            # patches that all attend alike would leave flat maps, whose normalised scores are
            # nothing but rounding
            queries, keys, _ = block.attn.in_proj_weight.chunk(3)
            queries.mul_(3)
            keys.mul_(3)
    return clip


@dataclass(frozen=True)
class Recipe:
    """A published recipe on random weights, and what its prompts are made of."""

    module: PromptModule
    names: list[str]  # classes, then background
    names_first: bool
    micro_batches: int


def build_recipe(task: str, dataset: str, setting: Setting) -> Recipe:
    """Build a recipe as the entry points do, but for the weights of CLIP."""
    # the config, with a CLIP of random weights
    cfg = compose_training(f"task={task}", f"dataset={dataset}")
    cfg.clip.clip = {"_target_": "benchmarks.inputs.build_clip", "name": setting.sizes.clip}
    cfg.clip.tokenize.name = PAPER.clip

    # the module
    names = list(cfg.dataset.classes)
    module = build_module(cfg.stage, classes=names, prompt_names=names)
    module.trainer = L.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    )

    # what its prompts are made of
    place_name = cfg.stage.model.prompts.place_name["_target_"]
    return Recipe(
        module=module.to(setting.device),
        names=[*names, *cfg.stage.model.background],
        names_first=place_name == "fmawsss.prompts.name_at_front",
        micro_batches=cfg.stage.training.view.micro_batches,
    )


def compose_training(*words: str) -> DictConfig:
    """Compose the config of a training as the command line does."""
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("train", translate(list(words)))


def build_module(node: DictConfig, **told: Any) -> Any:
    """Build the module of a stage from all sections of its node, and from what it is told."""
    settings: dict[str, Any] = {}
    for section in (node.learning, node.applying, node.runtime.arguments):
        settings |= instantiate(section, _convert_="all")
    return instantiate(node.model, _partial_=True, _convert_="all")(**settings, **told)


def make_labels(present: list[int], classes: int) -> Bool[Tensor, "B C"]:
    """Give each image as many classes as `present` says."""
    labels = torch.zeros(len(present), classes, dtype=torch.bool)
    for image, count in enumerate(present):
        labels[image, (7 * image + 3 * torch.arange(count)) % classes] = True
    return labels


def make_training_batch(images: int, side: int, classes: int) -> Batch:
    """Draw crops with 1 and 2 classes in turn, 1.5 on average, and a seed map of rectangles."""
    generator = torch.Generator().manual_seed(1)
    labels = make_labels([1 + image % 2 for image in range(images)], classes)
    return Batch(
        names=[str(image) for image in range(images)],
        images=torch.randn(images, 3, side, side, generator=generator),
        sizes=[(side, side)] * images,
        labels=labels,
        seeds=torch.stack([draw_seed(row, side) for row in labels]),
    )


def draw_seed(labels: Bool[Tensor, "C"], side: int) -> UInt8[Tensor, "H W"]:
    """Give every present class a rectangle, and leave a strip undecided."""
    seed = torch.zeros(side, side, dtype=torch.uint8)
    for place, index in enumerate(labels.nonzero().flatten().tolist()):
        top = side // 8 + place * side // 3
        seed[top : top + side // 3, side // 5 : side // 2] = index + 1
    seed[:, -side // 16 :] = 255
    return seed


def make_seeding_batch(present: Sequence[int], sizes: Sizes, classes: int) -> Batch:
    """Draw images of so many classes, sides rounded up to whole patches, with superpixels."""
    generator = torch.Generator().manual_seed(2)
    height, width = (-(-side // 16) * 16 for side in sizes.image)
    return Batch(
        names=[str(image) for image in range(len(present))],
        images=torch.randn(len(present), 3, height, width, generator=generator),
        sizes=[sizes.image] * len(present),
        labels=make_labels(list(present), classes),
        superpixels=[make_superpixels(sizes.superpixels, sizes.image) for _ in present],
    )


def make_superpixels(count: int, size: tuple[int, int]) -> Superpixels:
    """Draw ellipses with wavy outlines: few large ones, many small ones, of all three levels."""
    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    centre = torch.rand(count, 2, 1, 1, generator=generator) * torch.tensor(size).view(2, 1, 1)
    radius = min(size) / 4 * (torch.rand(count, 1, 1, generator=generator) ** 2 + 0.15)
    down, right = rows - centre[:, 0], columns - centre[:, 1]
    waves = 1 + 0.2 * torch.sin(5 * torch.atan2(down, right))
    masks = down.square() + right.square() < (radius * waves).square()
    masks = masks[masks.flatten(1).any(dim=1)]

    counts, offsets = encode_masks(masks)
    kept, area = len(masks), masks.sum(dim=(1, 2))
    level = torch.arange(kept).to(torch.uint8) % 3
    places, quality = torch.zeros(kept, 4).long(), torch.ones(kept)
    return Superpixels(
        size,
        level,
        area,
        places,
        quality,
        quality,
        torch.zeros(kept, 2).double(),
        places,
        counts,
        offsets,
    )


def make_attention(tokens: int, blocks: int) -> Tensor:
    """Draw the attention of all blocks: rows that sum to one, the class token first."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(blocks, tokens + 1, tokens + 1, generator=generator).mul_(2).softmax(dim=-1)


def make_cams(present: int, grid: tuple[int, int]) -> Tensor:
    """Draw smooth CAMs, partly negative, as small as real ones."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(1, present, 4, 4, generator=generator)
    return 1e-4 * torch.nn.functional.interpolate(coarse, size=grid, mode="bicubic")[0]
