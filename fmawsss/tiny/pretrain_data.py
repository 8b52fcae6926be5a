"""What both pre-trainings share: a pool of scenes that is renewed while used, schedule, starts."""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped
from open_clip.pos_embed import get_2d_sincos_pos_embed
from torch import Tensor, nn

from fmawsss.tiny.shapes import Scene, draw_scene

P_MATERIAL = 0.70
logger = logging.getLogger(__name__)


@dataclass
class ScenePool:
    """Scenes to draw from; the oldest are replaced, so that none is seen for long."""

    rng: np.random.Generator
    scenes: list[Scene]
    oldest: int = field(default=0, init=False)

    @classmethod
    def render(cls, rng: np.random.Generator, count: int) -> "ScenePool":
        """Fill a pool with `count` new scenes."""
        return cls(rng, [draw_scene(rng, P_MATERIAL) for _ in range(count)])

    def pick(self, count: int) -> list[Scene]:
        """Draw scenes, some of them perhaps twice."""
        return [self.scenes[i] for i in self.rng.integers(len(self.scenes), size=count)]

    def renew(self, count: int) -> None:
        """Replace the `count` oldest scenes by new ones."""
        for _ in range(count):
            self.scenes[self.oldest] = draw_scene(self.rng, P_MATERIAL)
            self.oldest = (self.oldest + 1) % len(self.scenes)


def turn_arrays(
    arrays: tuple[Shaped[np.ndarray, "H W *rest"], ...], quarter_turns: int, mirror: bool
) -> tuple[Shaped[np.ndarray, "H W *rest"], ...]:
    """Turn and mirror several square arrays alike."""
    return tuple(
        np.ascontiguousarray(np.rot90(array[:, ::-1] if mirror else array, quarter_turns))
        for array in arrays
    )


def anneal_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Rise linearly to the peak, then fall along a half cosine to zero."""
    warmup = min(warmup, max(1, steps // 10))
    return peak * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def group_parameters(
    model: nn.Module, weight_decay: float, leave_out: Sequence[nn.Parameter] = ()
) -> list[dict[str, object]]:
    """Split parameters for AdamW: matrices decay, vectors and position embeddings do not."""
    taken = {id(parameter) for parameter in leave_out}
    decays: list[nn.Parameter] = []
    rests: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in taken:
            is_position = "pos_embed" in name or "positional" in name
            (rests if is_position or parameter.ndim < 2 else decays).append(parameter)

    # As AdamW takes them
    return [
        {"params": decays, "weight_decay": weight_decay},
        {"params": rests, "weight_decay": 0.0},
    ]


def position_table(width: int, grid: int, class_token: bool) -> Tensor:
    """Tabulate two-dimensional sine-cosine positions at half amplitude.

    class_token: whether a row of zeros comes first.
    """
    table = get_2d_sincos_pos_embed(width, grid, cls_token=class_token)
    return 0.5 * torch.from_numpy(table).float()


@torch.no_grad()
def mimic_attention(qkv: Tensor, projection: Tensor, heads: int) -> None:
    """Start attention as if trained: queries match equal keys, values come back negated.

    Mimetic initialisation (Trockman and Kolter, 2023, arXiv:2305.09828). Shapes: `qkv` (3 D, D),
    `projection` (D, D).
    """
    # Queries and keys of each head
    width = qkv.shape[1]
    size = width // heads
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        left, scale, right = torch.linalg.svd(
            0.7 * torch.randn(width, width) / width**0.5 + 0.7 * torch.eye(width)
        )
        qkv[:width][rows] = (left[:, :size] * scale[:size].sqrt()).T
        qkv[width : 2 * width][rows] = right[:size] * scale[:size].sqrt()[:, None]

    # Values and projection of all heads
    left, scale, right = torch.linalg.svd(
        0.4 * torch.randn(width, width) / width**0.5 - 0.4 * torch.eye(width)
    )
    qkv[2 * width :] = right * scale.sqrt()[:, None]
    projection.copy_(left * scale.sqrt())


def compile_training(trainer: nn.Module, device: torch.device, steps: int) -> None:
    """Compile the forward pass where there is a compiler and steps enough to be worth a minute.

    On a CPU it is then a third faster.
    """
    if steps > 200 and (device.type != "cpu" or shutil.which("g++") is not None):
        trainer.compile(dynamic=False)


@dataclass
class Progress:
    """Log a line every so many steps: step, time, and means of the numbers since the last line."""

    name: str
    steps: int
    every: int = 50
    started: float = field(default_factory=time.monotonic)
    sums: dict[str, float] = field(default_factory=dict)

    def report(self, step: int, numbers: dict[str, Tensor]) -> None:
        """Take in the numbers of one step, counted from zero."""
        for key, value in numbers.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.item() / self.every
        if (step + 1) % self.every == 0:
            text = "  ".join(f"{key} {value:.4f}" for key, value in self.sums.items())
            minutes = (time.monotonic() - self.started) / 60
            logger.info("%s %d/%d  %.1f min  %s", self.name, step + 1, self.steps, minutes, text)
            self.sums.clear()
