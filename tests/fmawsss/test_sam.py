"""Quasi-superpixels against the golden vectors and against segment_anything's own mask generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from fmawsss import downloads, sam_thresholds
from fmawsss.sam import SuperpixelGenerator, load_sam
from fmawsss.sam_points import Frame, SamPoints
from fmawsss.superpixels import Superpixels
from fmawsss.tiny.models import tiny_sam
from golden_tools import assert_close, load_case

NO_OFFSETS = {"iou_offsets": (0.0, 0.0, 0.0), "nms_offsets": (0.0, 0.0, 0.0), "stability_offsets": (0.0, 0.0, 0.0)}
OFFICIAL = {
    "points_per_side": 16,
    "points_per_batch": 64,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_n_layers": 0,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 512 / 1500,
    "crop_n_points_downscale_factor": 1,
    "min_mask_region_area": 0,
}
RELEASED_NAMES = {
    "score_thresh_offset": "iou_offsets",
    "score_nms_offset": "nms_offsets",
    "stability_score_bias": "stability_offsets",
    "rock_sand_water_thresh": "recall_threshold",
}


@cache
def golden_sam() -> Sam:
    weights, meta = load_case("case8_sam/tiny_sam_state_dict")
    config = meta["config"]
    encoder = ImageEncoderViT(**{**config["image_encoder"], "norm_layer": partial(nn.LayerNorm, eps=1e-6)})
    decoder = config["mask_decoder"]
    transformer = TwoWayTransformer(**decoder["transformer"])
    sam = Sam(
        encoder, PromptEncoder(**config["prompt_encoder"]), MaskDecoder(**{**decoder, "transformer": transformer})
    )
    sam.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    return sam.eval()


@cache
def random_sam(seed: int = 0, side: int = 64) -> Sam:
    """Make a SAM of random weights."""
    generator = torch.Generator().manual_seed(seed)
    encoder = ImageEncoderViT(img_size=side, patch_size=8, embed_dim=32, depth=1, num_heads=2, out_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=16, num_heads=2, mlp_dim=32)
    decoder = MaskDecoder(transformer_dim=16, transformer=transformer, iou_head_depth=2, iou_head_hidden_dim=16)
    sam = Sam(encoder, PromptEncoder(16, (side // 8, side // 8), (side, side), mask_in_chans=4), decoder)
    for parameter in sam.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_(generator=generator)
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

    def encode_crop(self, image: np.ndarray, frame: Frame) -> BlobCrop:
        left, top, right, bottom = frame.box
        return BlobCrop((left, top), (bottom - top, right - left))

    def answer_points(self, crop: BlobCrop, points: np.ndarray) -> BlobAnswer:
        corner = np.array(crop.corner, dtype=np.float64)
        place = points + corner
        middle = np.round(place / 20) * 20
        level = np.arange(3)
        wave = 2 * level + (0.37 * middle[:, 0] + 0.91 * middle[:, 1])[:, None]
        iou = 0.8 + 0.12 * np.sin(wave) + 0.02 * np.sin(place[:, :1])
        logits = np.stack([self.draw_level(crop, place, middle, k) for k in level], axis=1)
        return BlobAnswer(torch.from_numpy(iou.astype(np.float32)), torch.from_numpy(logits.astype(np.float32)))

    def draw_level(self, crop: BlobCrop, place: np.ndarray, middle: np.ndarray, k: int) -> np.ndarray:
        y, x = np.mgrid[: crop.size[0], : crop.size[1]].astype(np.float64)
        radius = [5, 9, 17][k] * (1 + 0.35 * np.sin(0.7 * middle[:, 0] + 1.3 * middle[:, 1] + k))
        height = 60 + 40 * np.cos(0.2 * place[:, 0])
        dx, dy = (d - (m - c)[:, None, None] for d, m, c in zip((x, y), middle.T, crop.corner, strict=True))
        logits = height[:, None, None] * (1 - (dx**2 + 1.5 * dy**2) / radius[:, None, None] ** 2)
        island = (dx - 12 * (k + 1)) ** 2 + (dy + 5) ** 2 < 2.5**2
        logits = np.where(island, np.maximum(logits, 4), logits)
        return np.where((dx**2 + dy**2 < 1.6**2) & (k >= 1), -4.0, logits)

    def draw_masks(self, answer: BlobAnswer, wanted: Tensor) -> Tensor:
        return answer.logits[wanted]

    def enlarge_masks(self, crop: BlobCrop, logits: Tensor) -> Tensor:
        return logits


def build_golden(name: str, params: dict[str, Any]) -> SuperpixelGenerator:
    settings = {RELEASED_NAMES.get(key, key): value for key, value in params.items()}
    settings = {"points_per_batch": 64, **settings}
    settings.pop("rock_sand_water_chunk_size", None)
    generator = SuperpixelGenerator(golden_sam(), **settings)
    if name.startswith("blob"):
        generator.predictor = BlobPredictor()
    return generator


@pytest.mark.parametrize(
    "name",
    ["blob_fma", "blob_fma_c0", "blob_fma_lowered", "blob_official_default", "blob_ssa_default"]
    + ["sam_empty", "sam_empty_c0", "sam_fma_c0", "sam_official_default", "sam_official_nothresh"],
)
def test_generation_equals_the_golden_vectors(name: str) -> None:
    arrays, meta = load_case(f"case8_sam/{name}")
    found = build_golden(name, meta["params"]).generate(arrays["image"])
    assert len(found) == meta["n_anns"]
    assert found.size == arrays["image"].shape[:2]
    if not len(found):
        return
    case = f"case8_sam/{name}"
    assert_close(found.counts, arrays["rle_counts"], f"{case}:rle_counts")
    assert_close(found.offsets.diff(), arrays["rle_lens"], f"{case}:rle_lens")
    assert_close(found.level, arrays["level"], f"{case}:level")
    assert_close(found.area, arrays["area"], f"{case}:area")
    assert_close(found.box, arrays["bbox"], f"{case}:bbox")
    assert_close(found.crop, arrays["crop_box"], f"{case}:crop_box")
    assert_close(found.point, arrays["point_coords"][:, 0], f"{case}:point_coords")
    assert_close(found.predicted_iou, arrays["predicted_iou"], f"{case}:predicted_iou")
    # a pixel or two of thousands lie within rounding of the raised and the lowered threshold
    np.testing.assert_allclose(found.stability, arrays["stability_score"], atol=5e-4)


def test_the_golden_answers_of_sam_are_reproduced() -> None:
    arrays, _ = load_case("case8_sam/tiny_sam_raw")
    predictor, size = SamPoints(golden_sam()), arrays["image"].shape[:2]
    with torch.no_grad():
        crop = predictor.encode_crop(arrays["image"], Frame((0, 0, size[1], size[0]), size))
        answer = predictor.answer_points(crop, arrays["points"])
        drawn = predictor.draw_masks(answer, torch.ones(4, 3, dtype=torch.bool))
        logits = predictor.enlarge_masks(crop, drawn)
    assert_close(answer.iou, arrays["iou_preds"], "case8_sam/tiny_sam_raw:iou_preds")
    np.testing.assert_allclose(drawn.view(4, 3, 64, 64), arrays["low_res"], atol=2e-4 * np.abs(arrays["low_res"]).max())
    np.testing.assert_allclose(
        logits.view(4, 3, *size), arrays["masks_logits"], atol=2e-4 * np.abs(arrays["masks_logits"]).max()
    )


def draw_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of colour with noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3)).repeat(16, 0).repeat(16, 1)
    return (blocks[:height, :width] * 0.8 + rng.integers(0, 52, (height, width, 3))).astype(np.uint8)


def check_equal(found: Superpixels, expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    runs = np.split(found.counts.numpy(), found.offsets[1:-1].numpy())
    for index, record in enumerate(expected):
        assert runs[index].tolist() == record["segmentation"]["counts"]
        assert int(found.area[index]) == record["area"]
        assert found.box[index].tolist() == record["bbox"]
        assert found.crop[index].tolist() == record["crop_box"]
        assert found.point[index].tolist() == record["point_coords"][0]
        assert float(found.predicted_iou[index]) == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert float(found.stability[index]) == pytest.approx(record["stability_score"], abs=1e-5)


OPEN = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
LOOSE = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.4}


@pytest.mark.parametrize(
    ("sam", "size", "settings", "at_least"),
    [
        (tiny_sam, (112, 112), LOOSE, 10),
        (tiny_sam, (150, 97), {**LOOSE, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, 10),
        (tiny_sam, (80, 201), {**LOOSE, "crop_n_layers": 1, "min_mask_region_area": 40, "points_per_side": 8}, 5),
        (tiny_sam, (90, 75), {**LOOSE, "crop_n_layers": 2, "crop_nms_thresh": 0.5, "points_per_side": 4}, 5),
        (tiny_sam, (60, 45), {**LOOSE, "points_per_side": 5, "points_per_batch": 3}, 5),
        (tiny_sam, (1, 160), {**LOOSE, "points_per_side": 4}, 0),
        (random_sam, (64, 64), {**OPEN, "stability_score_thresh": 0.8, "box_nms_thresh": 1.0}, 20),
        (random_sam, (70, 41), {**OPEN, "crop_n_layers": 1, "box_nms_thresh": 1.0, "points_per_side": 6}, 20),
        (random_sam, (33, 90), {**OPEN, "min_mask_region_area": 20, "box_nms_thresh": 1.0, "points_per_side": 8}, 20),
    ],
)
def test_without_offsets_and_filter_it_is_sam(
    sam: Callable[[], Sam], size: tuple[int, int], settings: dict[str, Any], at_least: int
) -> None:
    margin = 1.0 if sam is tiny_sam else 1e-3  # random weights give small logits
    settings, image = OFFICIAL | {"stability_score_offset": margin} | settings, draw_image(*size)
    expected = SamAutomaticMaskGenerator(sam(), output_mode="uncompressed_rle", **settings).generate(image)
    found = SuperpixelGenerator(sam(), **settings, **NO_OFFSETS, recall_threshold=None).generate(image)
    assert len(expected) >= at_least
    check_equal(found, expected)
