"""Train the tiny CLIP on generated scenes and captions: objects, then crops, then full images.

Besides captions it learns tags (classes, colours, backgrounds, stuff), and its patches are told
their class from the generator's masks: a stand-in for what a foundation model picks up from far
more images, not a method of its own.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.tiny.captions import list_words
from fmawsss.tiny.models import build_clip, save_clip
from fmawsss.tiny.muon import Muon
from fmawsss.tiny.pretrain_clip_batches import (
    CLIP_ARCHITECTURE,
    TAGS,
    Reader,
    SceneView,
    draw_clip_batch,
)
from fmawsss.tiny.pretrain_clip_model import CLASSES, ClipTrainer
from fmawsss.tiny.pretrain_data import Progress, ScenePool, compile_training, group_parameters
from fmawsss.tiny.pretrain_metrics import measure_clip
from fmawsss.tiny.shapes import CLASS_NAMES, SIZE

CLIP_POOL, CLIP_RENEWED = 10000, 8
CLIP_PEAK_RATE, MUON_RATE, CLIP_WEIGHT_DECAY = 1.5e-3, 0.02, 0.05
# Of the losses of patches, at the first and at the last step
PATCH_WEIGHTS = (2.0, 0.4)
EARLY_WEIGHTS = (0.3, 0.0)

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


def pretrain_clip(path: Path, seed: int, scale: float, device: torch.device) -> dict[str, float]:
    """Train a tiny CLIP, write it to `path`, and return its metrics on fresh scenes.

    scale: multiplies the number of steps.
    """
    # What is trained, and on what
    torch.manual_seed(seed)
    rng, reader = np.random.default_rng([seed, 2]), Reader()
    pool = ScenePool.render(rng, max(16, int(CLIP_POOL * min(1.0, scale))))
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
            pool.renew(CLIP_RENEWED)
            step += 1


def mix(first: float, last: float, share: float) -> float:
    """Go from the first value to the last one as the share of the training that is done grows."""
    return first + (last - first) * share


def build_optimizers(trainer: ClipTrainer) -> list[torch.optim.Optimizer]:
    """Give the matrices inside the blocks to Muon, everything else to AdamW."""
    # Who gets what
    inside = [p for name, p in trainer.named_parameters() if "resblocks" in name and p.ndim == 2]
    others = group_parameters(trainer, CLIP_WEIGHT_DECAY, leave_out=inside)
    optimizers = [
        torch.optim.AdamW(others, lr=CLIP_PEAK_RATE, betas=(0.9, 0.98)),
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
