"""Train the tiny SAM on generated scenes: points ask, level 2 answers the object, level 0 its part.

The whole of a point on the ground is all ground; its part is one patchwork region of it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from fmawsss.tiny.models import SamArchitecture, build_sam, save_sam
from fmawsss.tiny.pretrain_data import (
    Progress,
    ScenePool,
    anneal_rate,
    compile_training,
    group_parameters,
    turn_arrays,
)
from fmawsss.tiny.pretrain_metrics import measure_sam
from fmawsss.tiny.pretrain_sam_model import SamTrainer
from fmawsss.tiny.shapes import SIZE, Scene

SAM_ARCHITECTURE = SamArchitecture(patch_size=4, global_blocks=(3,))
SAM_POOL, SAM_RENEWED = 6000, 4
SAM_PEAK_RATE, SAM_WEIGHT_DECAY = 1e-3, 0.02
OBJECT_POINTS = 0.65  # share of the points that lie on objects; the others fall anywhere


@dataclass(frozen=True)
class Phase:
    """A stretch of the training.

    images: per step. points: per image. side: of the crops, in pixels.
    """

    steps: int
    images: int
    points: int
    side: int


SAM_PHASES = (Phase(1600, 24, 8, 56), Phase(2400, 8, 8, SIZE))


@dataclass(frozen=True)
class SamBatch:
    """Crops, points, and what they should answer.

    corner: the crop's first row and column of tokens.
    points: x, y in pixels of the full image; those of one image follow each other.
    """

    images: Float[Tensor, "B 3 H W"]  # 0..255
    instances: Int[Tensor, "B H W"]
    corner: Int[Tensor, "2"]
    points: Float[Tensor, "n 2"]
    whole: Bool[Tensor, "n H W"]
    part: Bool[Tensor, "n H W"]


def pretrain_sam(path: Path, seed: int, scale: float, device: torch.device) -> dict[str, float]:
    """Train a tiny SAM, write it to `path`, and return its metrics on fresh scenes.

    scale: multiplies the number of steps.
    """
    # What is trained, and on what
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    pool = ScenePool.render(rng, max(16, int(SAM_POOL * min(1.0, scale))))
    trainer = SamTrainer(build_sam(SAM_ARCHITECTURE)).to(device)
    train_sam(trainer, pool, scale, device)

    # How good it is
    sam = trainer.sam.cpu().eval()
    count = max(4, min(200, int(200 * scale * 10)))
    metrics = measure_sam(sam, np.random.default_rng([seed, 3]), count)
    notes = {name: f"{value:.4f}" for name, value in metrics.items()}
    save_sam(sam, SAM_ARCHITECTURE, notes, path)
    return metrics


def train_sam(trainer: SamTrainer, pool: ScenePool, scale: float, device: torch.device) -> None:
    """Take all steps of all phases."""
    # The pace
    phases = [replace(phase, steps=max(1, round(phase.steps * scale))) for phase in SAM_PHASES]
    steps = sum(phase.steps for phase in phases)
    progress, step = Progress("sam", steps), 0
    optimizer = torch.optim.AdamW(group_parameters(trainer, SAM_WEIGHT_DECAY), betas=(0.9, 0.98))
    compile_training(trainer, device, steps)

    # Step by step
    for phase in phases:
        for _ in range(phase.steps):
            batch = draw_sam_batch(pool.rng, pool, phase, SAM_ARCHITECTURE.patch_size, device)
            for group in optimizer.param_groups:
                group["lr"] = anneal_rate(step, steps, SAM_PEAK_RATE)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                losses = trainer(
                    batch.images,
                    batch.instances,
                    batch.corner,
                    batch.points,
                    batch.whole,
                    batch.part,
                )
            optimizer.zero_grad(set_to_none=True)
            losses["total"].backward()
            nn.utils.clip_grad_norm_(trainer.parameters(), 1.0)
            optimizer.step()
            progress.report(step, losses)
            pool.renew(SAM_RENEWED)
            step += 1


def draw_sam_batch(
    rng: np.random.Generator, pool: ScenePool, phase: Phase, patch: int, device: torch.device
) -> SamBatch:
    """Cut one place out of varied scenes, and draw points with their answers."""
    # One place for all
    corner = rng.integers(0, (SIZE - phase.side) // patch + 1, size=2)
    top, left = (corner * patch).tolist()
    window = slice(top, top + phase.side), slice(left, left + phase.side)
    images, instances, points, wholes, parts = [], [], [], [], []
    for scene in pool.pick(phase.images):
        image, instance, part = (array[window] for array in _vary_scene(rng, scene))
        images.append(image)
        instances.append(instance)

        # Points, and the masks that they ask for
        rows, columns = _draw_points(rng, instance, phase.points)
        whole = instance == instance[rows, columns, None, None]
        wholes.append(whole)
        parts.append(whole & (part == part[rows, columns, None, None]))
        points.append(np.stack([columns + left, rows + top], 1) + 0.5)

    # As the trainer takes them
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
    return SamBatch(
        images=pixels.float().contiguous(),
        instances=torch.from_numpy(np.stack(instances)).to(device).int(),
        corner=torch.from_numpy(corner).to(device),
        points=torch.from_numpy(np.concatenate(points)).to(device).float(),
        whole=torch.from_numpy(np.concatenate(wholes)).to(device),
        part=torch.from_numpy(np.concatenate(parts)).to(device),
    )


def _vary_scene(
    rng: np.random.Generator, scene: Scene
) -> tuple[UInt8[np.ndarray, "H W *rest"], ...]:
    """Turn and mirror a scene, and half of the time exchange its colour channels."""
    arrays = turn_arrays(
        (scene.image, scene.instance, scene.part), int(rng.integers(4)), rng.random() < 0.5
    )
    channels = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
    return arrays[0][..., channels], arrays[1], arrays[2]


def _draw_points(
    rng: np.random.Generator, instance: UInt8[np.ndarray, "H W"], count: int
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Draw rows and columns: most on objects, each as often as the others, the rest anywhere."""
    ids = np.unique(instance)
    ids = ids[ids > 0]
    rows, columns = rng.integers(0, instance.shape[0], size=(2, count))
    for i in range(round(OBJECT_POINTS * count) if len(ids) else 0):
        places = np.flatnonzero(instance == ids[rng.integers(len(ids))])
        rows[i], columns[i] = divmod(int(places[rng.integers(len(places))]), instance.shape[1])
    return rows, columns
