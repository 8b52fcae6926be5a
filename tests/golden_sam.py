"""The predictors behind the golden vectors of SAM: a tiny SAM, and an analytic formula."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from golden_tools import load_case
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from fmawsss.sam.points import FramedImage


@cache
def golden_sam() -> Sam:
    weights, meta = load_case("case8_sam/tiny_sam_state_dict")
    config = meta["config"]
    encoder = ImageEncoderViT(
        **{**config["image_encoder"], "norm_layer": partial(nn.LayerNorm, eps=1e-6)}
    )
    decoder = config["mask_decoder"]
    transformer = TwoWayTransformer(**decoder["transformer"])
    sam = Sam(
        encoder,
        PromptEncoder(**config["prompt_encoder"]),
        MaskDecoder(**{**decoder, "transformer": transformer}),
    )
    sam.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    return sam.eval()


@dataclass
class BlobCrop:
    corner: tuple[int, int]
    size: tuple[int, int]


@dataclass
class BlobAnswer:
    iou: Tensor
    logits: Tensor


class BlobPredictor(nn.Module):
    """The analytic stand-in for SAM that the `blob_*` vectors were made with."""

    mask_threshold = 0.0
    point_numbers = 1

    def encode_crops(self, views: Iterable[FramedImage], at_once: int) -> Iterator[BlobCrop]:
        for _, frame in views:
            left, top, right, bottom = frame.box
            yield BlobCrop((left, top), (bottom - top, right - left))

    def answer_points(self, crop: BlobCrop, points: np.ndarray) -> BlobAnswer:
        corner = np.array(crop.corner, dtype=np.float64)
        place = points + corner
        middle = np.round(place / 20) * 20
        level = np.arange(3)
        wave = 2 * level + (0.37 * middle[:, 0] + 0.91 * middle[:, 1])[:, None]
        iou = 0.8 + 0.12 * np.sin(wave) + 0.02 * np.sin(place[:, :1])
        logits = np.stack([self.draw_level(crop, place, middle, k) for k in level], axis=1)
        return BlobAnswer(
            torch.from_numpy(iou.astype(np.float32)), torch.from_numpy(logits.astype(np.float32))
        )

    def draw_level(
        self, crop: BlobCrop, place: np.ndarray, middle: np.ndarray, k: int
    ) -> np.ndarray:
        y, x = np.mgrid[: crop.size[0], : crop.size[1]].astype(np.float64)
        radius = [5, 9, 17][k] * (1 + 0.35 * np.sin(0.7 * middle[:, 0] + 1.3 * middle[:, 1] + k))
        height = 60 + 40 * np.cos(0.2 * place[:, 0])
        dx, dy = (
            d - (m - c)[:, None, None]
            for d, m, c in zip((x, y), middle.T, crop.corner, strict=True)
        )
        logits = height[:, None, None] * (1 - (dx**2 + 1.5 * dy**2) / radius[:, None, None] ** 2)
        island = (dx - 12 * (k + 1)) ** 2 + (dy + 5) ** 2 < 2.5**2
        logits = np.where(island, np.maximum(logits, 4), logits)
        return np.where((dx**2 + dy**2 < 1.6**2) & (k >= 1), -4.0, logits)

    def draw_masks(self, crop: BlobCrop, answer: BlobAnswer, wanted: Tensor) -> Tensor:
        return answer.logits[wanted]

    def enlarge_masks(self, crop: BlobCrop, logits: Tensor) -> Tensor:
        return logits
