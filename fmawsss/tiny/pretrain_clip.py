"""Train the tiny CLIP on generated scenes and captions: objects, then crops, then full images.

Besides captions it learns tags (classes, colours, backgrounds, stuff), and its patches are told
their class from the generator's masks: a stand-in for what a foundation model picks up from far
more images, not a method of its own.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from open_clip import get_tokenizer
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn import functional as F

from fmawsss.tiny.captions import draw_phrase, list_words
from fmawsss.tiny.models import ClipArchitecture, build_clip, save_clip
from fmawsss.tiny.muon import Muon
from fmawsss.tiny.pretrain_clip_model import CLASSES, ClipBatch, ClipTrainer
from fmawsss.tiny.pretrain_data import (
    Progress,
    ScenePool,
    compile_training,
    group_parameters,
    turn_arrays,
)
from fmawsss.tiny.pretrain_metrics import measure_clip
from fmawsss.tiny.shapes import (
    BACKGROUNDS,
    CLASS_NAMES,
    MIN_PIXELS,
    SIZE,
    STUFF,
    Scene,
    SceneObject,
)
from fmawsss.tiny.textures import COLOUR_NAMES

CLIP_ARCHITECTURE = ClipArchitecture()
POOL, RENEWED = 10000, 8
PEAK_RATE, MUON_RATE, WEIGHT_DECAY = 1.5e-3, 0.02, 0.05
# Of the losses of patches, at the first and at the last step
PATCH_WEIGHTS = (2.0, 0.4)
EARLY_WEIGHTS = (0.3, 0.0)
TEXT_LENGTH = 32  # tokens; the tokenizer cuts the rare longer captions
TAGS = (*CLASS_NAMES, *COLOUR_NAMES, *BACKGROUNDS, *STUFF)


@dataclass(frozen=True)
class SceneView:
    """How a batch looks at its scenes.

    images: per batch. side: of crops, in pixels. zoom: whether one object fills a crop.
    keep: share of the patches that is seen, drawn anew for each image.
    """

    images: int
    side: int
    zoom: bool = False
    keep: float = 1.0


OBJECT = SceneView(128, 48, zoom=True)
CROP = SceneView(144, 72)
HALF = SceneView(96, SIZE, keep=0.5)
FULL = SceneView(96, SIZE)
# steps, and the views that take turns during them
CLIP_PHASES: tuple[tuple[int, tuple[SceneView, ...]], ...] = (
    (150, (OBJECT,)),
    (600, (CROP,)),
    (540, (HALF, HALF, CROP)),
    (80, (FULL,)),
)


class Reader:
    """Turn texts into indices of a compact vocabulary.

    token_ids: its rows in the full one, ascending.
    """

    def __init__(self) -> None:
        self.tokenize = get_tokenizer("ViT-B-32")
        self.token_ids = torch.unique(self.tokenize([*list_words(), ",", "."]))
        self.compact = torch.zeros(int(self.token_ids.max()) + 1, dtype=torch.long)
        self.compact[self.token_ids] = torch.arange(len(self.token_ids))

    def read(self, texts: list[str]) -> Int[Tensor, "B t"]:
        """Tokenize texts of known words."""
        return self.compact[self.tokenize(texts, context_length=TEXT_LENGTH)]


def pretrain_clip(path: Path, seed: int, scale: float, device: torch.device) -> dict[str, float]:
    """Train a tiny CLIP, write it to `path`, and return its metrics on fresh scenes.

    scale: multiplies the number of steps.
    """
    # What is trained, and on what
    torch.manual_seed(seed)
    rng, reader = np.random.default_rng([seed, 2]), Reader()
    pool = ScenePool.render(rng, max(16, int(POOL * min(1.0, scale))))
    clip = build_clip(CLIP_ARCHITECTURE)
    trainer = ClipTrainer(clip, reader.token_ids, len(TAGS), balance_classes(pool)).to(device)
    train_clip(trainer, reader, pool, scale, device)

    # Only the rows of known words are kept of the token table
    table = clip.cpu().eval().token_embedding.weight.data.zero_()
    table[reader.token_ids] = trainer.tokens.weight.detach().cpu()

    # How good it is
    count = max(8, min(400, int(400 * scale * 10)))
    prompts = reader.tokenize([f"a photo of a {name}." for name in CLASS_NAMES])
    metrics = measure_clip(clip, prompts, np.random.default_rng([seed, 3]), count)
    fresh = np.random.default_rng([seed, 4])
    metrics["patch_accuracy"] = measure_patches(trainer.cpu(), reader, fresh, count)
    notes = {name: f"{value:.4f}" for name, value in metrics.items()}
    save_clip(clip, CLIP_ARCHITECTURE, reader.token_ids, list_words(), notes, path)
    return metrics


def train_clip(
    trainer: ClipTrainer, reader: Reader, pool: ScenePool, scale: float, device: torch.device
) -> None:
    """Take all steps of all phases."""
    # The pace
    steps = [max(1, round(count * scale)) for count, _ in CLIP_PHASES]
    progress, step = Progress("clip", sum(steps), every=25), 0
    optimizers = build_optimizers(trainer)
    narrow = prefers_bfloat16(device)
    if narrow:
        compile_training(trainer, device, sum(steps))

    # Views take turns, while rates and weights change step by step
    for count, (_, views) in zip(steps, CLIP_PHASES, strict=True):
        for turn in range(count):
            batch = draw_clip_batch(pool.rng, pool, views[turn % len(views)], reader, device)
            share = step / sum(steps)
            for group in list_groups(optimizers):
                group["lr"] = group["initial_lr"] * hold_rate(share, step)
            weights = [mix(*pair, share) for pair in (PATCH_WEIGHTS, EARLY_WEIGHTS)]
            with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
                losses = trainer(batch, *torch.tensor(weights, device=device))
            descend(trainer, optimizers, losses["total"])
            progress.report(step, losses)
            pool.renew(RENEWED)
            step += 1


def mix(first: float, last: float, share: float) -> float:
    """Go from the first value to the last one as the share of the training that is done grows."""
    return first + (last - first) * share


def build_optimizers(trainer: ClipTrainer) -> list[torch.optim.Optimizer]:
    """Give the matrices inside the blocks to Muon, everything else to AdamW."""
    # Who gets what
    inside = [p for name, p in trainer.named_parameters() if "resblocks" in name and p.ndim == 2]
    others = group_parameters(trainer, WEIGHT_DECAY, leave_out=inside)
    optimizers = [
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.98)),
        Muon(inside, MUON_RATE),
    ]

    # The rates that schedules start from
    for group in list_groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def list_groups(optimizers: list[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """List the parameter groups of several optimisers."""
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def hold_rate(share: float, step: int, warmup: int = 60, held: float = 0.3) -> float:
    """Rise for some steps, hold for a share of the training, then fall linearly to zero."""
    return min(1.0, (step + 1) / warmup) * min(1.0, (1 - share) / (1 - held))


def prefers_bfloat16(device: torch.device) -> bool:
    """Measure whether bfloat16 products are faster than float32 ones.

    CPUs without such instructions emulate them.
    """
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.ones(1024, 1024, dtype=dtype, device=device) for _ in range(2))
        _ = (left @ right).sum().item()
        started = time.perf_counter()
        _ = (left @ right).sum().item()
        seconds.append(time.perf_counter() - started)
    return seconds[1] < seconds[0]


def descend(
    trainer: ClipTrainer, optimizers: list[torch.optim.Optimizer], loss: Float[Tensor, ""]
) -> None:
    """Take one training step."""
    trainer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(trainer.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    with torch.no_grad():
        trainer.clip.logit_scale.clamp_(max=np.log(50))


@torch.no_grad()
def measure_patches(
    trainer: ClipTrainer, reader: Reader, rng: np.random.Generator, count: int
) -> float:
    """Measure how often the patch head names the class that covers most of a patch."""
    pool, view = ScenePool.render(rng, count), SceneView(count, SIZE)
    batch = draw_clip_batch(rng, pool, view, reader, torch.device("cpu"))
    losses = trainer.forward(batch, torch.tensor(0.0), torch.tensor(0.0))
    return losses["patch_accuracy"].item()


def balance_classes(pool: ScenePool) -> Float[Tensor, "C_and_ground"]:
    """Weigh classes by the inverse of their area, two on average, and the ground by one."""
    counts = [np.bincount(s.semantic.ravel(), minlength=CLASSES + 1)[1:] for s in pool.scenes]
    areas = 1.0 + np.sum(counts, 0)
    return torch.from_numpy(np.append(2 * areas.mean() / areas, 1.0)).float()


def draw_clip_batch(
    rng: np.random.Generator, pool: ScenePool, view: SceneView, reader: Reader, device: torch.device
) -> ClipBatch:
    """Look at scenes, turned and mirrored, and say what is seen."""
    images, semantics, tags, captions = [], [], np.zeros((view.images, len(TAGS)), np.float32), []
    for row, scene in enumerate(pool.pick(view.images)):
        # What is seen
        image, semantic, instance = cut_scene(rng, scene, view)
        visible = np.bincount(instance.ravel(), minlength=len(scene.objects) + 1)[1:]
        pairs = zip(scene.objects, visible, strict=True)
        objects = tuple(thing for thing, count in pairs if count >= MIN_PIXELS)

        # What is said of it
        tags[row, list_tags(objects, scene)] = 1
        told = objects or scene.objects[:1]
        captions.append(draw_phrase(rng, told, scene.background, scene.stuff))
        image, semantic = turn_arrays((image, semantic), int(rng.integers(4)), rng.random() < 0.5)
        images.append(image)
        semantics.append(semantic)

    # Which patches are seen
    corner = rng.integers(0, (SIZE - view.side) // CLIP_ARCHITECTURE.patch_size + 1, size=2)
    patches = (view.side // CLIP_ARCHITECTURE.patch_size) ** 2
    order = rng.random((view.images, patches)).argsort(axis=1)
    return ClipBatch(
        images=normalize_pixels(np.stack(images)).to(device),
        corner=torch.from_numpy(corner).to(device),
        patches=share_patches(np.stack(semantics)).to(device),
        tags=torch.from_numpy(tags).to(device),
        captions=reader.read(captions).to(device),
        kept=torch.from_numpy(np.sort(order[:, : round(patches * view.keep)])).to(device),
    )


def list_tags(objects: tuple[SceneObject, ...], scene: Scene) -> list[int]:
    """List the tags of a view of a scene: classes and colours of its objects, ground and stuff."""
    words = (scene.background, *scene.stuff)
    return [
        *(thing.class_index for thing in objects),
        *(TAGS.index(thing.colour, CLASSES) for thing in objects),
        *(TAGS.index(word, CLASSES + len(COLOUR_NAMES)) for word in words),
    ]


def cut_scene(
    rng: np.random.Generator, scene: Scene, view: SceneView
) -> tuple[UInt8[np.ndarray, "h w *rest"], ...]:
    """Cut image, semantic and instance mask around a random object; the full side cuts nothing."""
    # A square around it, not quite in the middle
    thing = scene.objects[rng.integers(len(scene.objects))]
    side, jitter = view.side, 20.0
    if view.zoom:
        side = int(np.clip(thing.radius * rng.uniform(2.1, 3.4), 32, SIZE))
        jitter = 0.15 * thing.radius
    corner = np.array(thing.centre) - side / 2 + rng.uniform(-jitter, jitter, 2)
    left, top = np.clip(corner, 0, SIZE - side).astype(int)
    place = slice(top, top + side), slice(left, left + side)
    image, masks = scene.image[place], (scene.semantic[place], scene.instance[place])

    # At the size of the view
    if side == view.side:
        return image, *masks
    size = (view.side, view.side)
    resized = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), *resized


def share_patches(semantic: UInt8[np.ndarray, "B H W"]) -> Float[Tensor, "B N C_and_ground"]:
    """Measure the share of each class in each patch; the ground comes last."""
    patch = CLIP_ARCHITECTURE.patch_size
    grid = semantic.shape[1] // patch
    classes = (torch.from_numpy(semantic).long() - 1) % (CLASSES + 1)
    pixels = F.one_hot(classes, CLASSES + 1).view(-1, grid, patch, grid, patch, CLASSES + 1)
    return pixels.float().mean((2, 4)).flatten(1, 2)


def normalize_pixels(images: UInt8[np.ndarray, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Scale to 0..1 and standardise as open_clip does."""
    visual = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in visual)
    return ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()
