"""Train the tiny CLIP on generated scenes and captions, from single objects over crops to full
images.

Besides captions it learns tags (classes, colours, backgrounds, stuff), and its patches are told
their class from the generator's masks: a stand-in for what a foundation model picks up from far
more images, not a method of its own.
"""

import time
from dataclasses import dataclass
from pathlib import Path

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
from fmawsss.tiny.pretrain_clip_model import CLASSES, Batch, ClipTrainer
from fmawsss.tiny.pretrain_data import (
    Progress,
    ScenePool,
    compile_training,
    group_parameters,
    turn_arrays,
)
from fmawsss.tiny.pretrain_score import score_clip
from fmawsss.tiny.shapes import BACKGROUNDS, CLASS_NAMES, MIN_PIXELS, SIZE, STUFF, Scene
from fmawsss.tiny.textures import COLOUR_NAMES

ARCHITECTURE = ClipArchitecture()
POOL, RENEWED = 10000, 8
PEAK_RATE, MUON_RATE, WEIGHT_DECAY = 1.5e-3, 0.02, 0.05
PATCH_WEIGHTS, EARLY_WEIGHTS = (
    (2.0, 0.4),
    (0.3, 0.0),
)  # of the losses of patches, at the first and at the last step
TEXT_LENGTH = 32  # tokens; the tokenizer cuts the rare longer captions
TAGS = (*CLASS_NAMES, *COLOUR_NAMES, *BACKGROUNDS, *STUFF)


@dataclass(frozen=True)
class View:
    """How a batch looks at its scenes: images per batch, side of crops in pixels.

    `zoom` fills a crop with one object; only the share `keep` of the patches is seen, drawn anew
    for each image.
    """

    images: int
    side: int
    zoom: bool = False
    keep: float = 1.0


OBJECT, CROP, HALF, FULL = (
    View(128, 48, zoom=True),
    View(144, 72),
    View(96, SIZE, keep=0.5),
    View(96, SIZE),
)
# steps, and the views that take turns during them
PHASES: tuple[tuple[int, tuple[View, ...]], ...] = (
    (150, (OBJECT,)),
    (600, (CROP,)),
    (540, (HALF, HALF, CROP)),
    (80, (FULL,)),
)


class Reader:
    """Turn texts into indices of a compact vocabulary; `token_ids` are its rows in the full one, in
    ascending order.
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
    """Train a tiny CLIP, write it to `path` and give back its scores on fresh scenes; `scale`
    multiplies the steps.
    """
    torch.manual_seed(seed)
    rng, reader = np.random.default_rng([seed, 2]), Reader()
    pool = ScenePool.render(rng, max(16, int(POOL * min(1.0, scale))))
    clip = build_clip(ARCHITECTURE)
    trainer = ClipTrainer(clip, reader.token_ids, len(TAGS), balance_classes(pool)).to(device)
    optimizers = build_optimizers(trainer)
    steps = [max(1, round(count * scale)) for count, _ in PHASES]
    narrow = prefers_bfloat16(device)
    if narrow:
        compile_training(trainer, device, sum(steps))
    progress, step = Progress("clip", sum(steps), every=25), 0
    for count, (_, views) in zip(steps, PHASES, strict=True):
        for turn in range(count):
            batch = draw_batch(rng, pool, views[turn % len(views)], reader, device)
            share = step / sum(steps)
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = group["initial_lr"] * hold_rate(share, step)
            weights = tuple(
                first + (last - first) * share for first, last in (PATCH_WEIGHTS, EARLY_WEIGHTS)
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
                losses = trainer(batch, *torch.tensor(weights, device=device))
            descend(trainer, optimizers, losses["total"])
            progress.report(step, losses)
            pool.renew(RENEWED)
            step += 1

    clip.cpu().eval().token_embedding.weight.data.zero_()[reader.token_ids] = (
        trainer.tokens.weight.detach().cpu()
    )
    scene_count = max(8, min(400, int(400 * scale * 10)))
    prompts = reader.tokenize([f"a photo of a {name}." for name in CLASS_NAMES])
    scores = score_clip(clip, prompts, np.random.default_rng([seed, 3]), scene_count)
    scores["patch_accuracy"] = score_patches(
        trainer.cpu(), reader, np.random.default_rng([seed, 4]), scene_count
    )
    notes = {name: f"{value:.4f}" for name, value in scores.items()}
    save_clip(clip, ARCHITECTURE, reader.token_ids, list_words(), notes, path)
    return scores


def build_optimizers(trainer: ClipTrainer) -> list[torch.optim.Optimizer]:
    """Give the matrices inside the blocks to Muon, everything else to AdamW."""
    inside = [p for name, p in trainer.named_parameters() if "resblocks" in name and p.ndim == 2]
    others = group_parameters(trainer, WEIGHT_DECAY, leave_out=inside)
    optimizers = [
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.98)),
        Muon(inside, MUON_RATE),
    ]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return optimizers


def hold_rate(share: float, step: int, warmup: int = 60, held: float = 0.3) -> float:
    """Rise for some steps, hold for a share of the training, then fall linearly to zero."""
    return min(1.0, (step + 1) / warmup) * min(1.0, (1 - share) / (1 - held))


def prefers_bfloat16(device: torch.device) -> bool:
    """Measure whether bfloat16 products are faster than float32 ones: CPUs without such
    instructions emulate them.
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
def score_patches(
    trainer: ClipTrainer, reader: Reader, rng: np.random.Generator, count: int
) -> float:
    """Measure the share of patches, mostly covered by one class, whose patch head names that class."""
    batch = draw_batch(
        rng, ScenePool.render(rng, count), View(count, SIZE), reader, torch.device("cpu")
    )
    losses = trainer.forward(batch, torch.tensor(0.0), torch.tensor(0.0))
    return losses["patch_accuracy"].item()


def balance_classes(pool: ScenePool) -> Float[Tensor, "C_and_ground"]:
    """Weigh classes by the inverse of their area, two on average, and the ground by one."""
    areas = 1.0 + np.sum(
        [np.bincount(s.semantic.ravel(), minlength=CLASSES + 1)[1:] for s in pool.scenes], 0
    )
    return torch.from_numpy(np.append(2 * areas.mean() / areas, 1.0)).float()


def draw_batch(
    rng: np.random.Generator, pool: ScenePool, view: View, reader: Reader, device: torch.device
) -> Batch:
    """Look at scenes, turned and mirrored, and say what is seen."""
    images, semantics, tags, captions = [], [], np.zeros((view.images, len(TAGS)), np.float32), []
    for row, scene in enumerate(pool.pick(view.images)):
        image, semantic, instance = cut_view(rng, scene, view)
        visible = np.bincount(instance.ravel(), minlength=len(scene.objects) + 1)[1:]
        objects = tuple(
            thing
            for thing, count in zip(scene.objects, visible, strict=True)
            if count >= MIN_PIXELS
        )
        for thing in objects:
            tags[row, [thing.class_index, TAGS.index(thing.colour, CLASSES)]] = 1
        for name in (scene.background, *scene.stuff):
            tags[row, TAGS.index(name, CLASSES + len(COLOUR_NAMES))] = 1
        captions.append(
            draw_phrase(rng, objects or scene.objects[:1], scene.background, scene.stuff)
        )
        image, semantic = turn_arrays((image, semantic), int(rng.integers(4)), rng.random() < 0.5)
        images.append(image)
        semantics.append(semantic)
    corner = rng.integers(0, (SIZE - view.side) // ARCHITECTURE.patch_size + 1, size=2)
    patches = (view.side // ARCHITECTURE.patch_size) ** 2
    kept = np.sort(
        rng.random((view.images, patches)).argsort(axis=1)[:, : round(patches * view.keep)]
    )
    return Batch(
        normalize_pixels(np.stack(images)).to(device),
        torch.from_numpy(corner).to(device),
        share_patches(np.stack(semantics)).to(device),
        torch.from_numpy(tags).to(device),
        reader.read(captions).to(device),
        torch.from_numpy(kept).to(device),
    )


def cut_view(
    rng: np.random.Generator, scene: Scene, view: View
) -> tuple[UInt8[np.ndarray, "h w *rest"], ...]:
    """Cut image, semantic and instance mask around a random object; the full side cuts nothing."""
    thing = scene.objects[rng.integers(len(scene.objects))]
    if view.zoom:
        side = int(np.clip(thing.radius * rng.uniform(2.1, 3.4), 32, SIZE))
        jitter = 0.15 * thing.radius
    else:
        side, jitter = view.side, 20.0
    corner = np.array(thing.centre) - side / 2 + rng.uniform(-jitter, jitter, 2)
    left, top = np.clip(corner, 0, SIZE - side).astype(int)
    arrays = (
        array[top : top + side, left : left + side]
        for array in (scene.image, scene.semantic, scene.instance)
    )
    if side == view.side:
        return tuple(arrays)
    size, (image, semantic, instance) = (view.side, view.side), arrays
    masks = (
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in (semantic, instance)
    )
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), *masks


def share_patches(semantic: UInt8[np.ndarray, "B H W"]) -> Float[Tensor, "B N C_and_ground"]:
    """Measure the share of each class in each patch; the ground comes last."""
    patch, grid = ARCHITECTURE.patch_size, semantic.shape[1] // ARCHITECTURE.patch_size
    classes = (torch.from_numpy(semantic).long() - 1) % (CLASSES + 1)
    shares = (
        F.one_hot(classes, CLASSES + 1)
        .view(-1, grid, patch, grid, patch, CLASSES + 1)
        .float()
        .mean((2, 4))
    )
    return shares.flatten(1, 2)


def normalize_pixels(images: UInt8[np.ndarray, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Scale to 0..1 and standardise as open_clip does."""
    visual = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in visual)
    return ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()
