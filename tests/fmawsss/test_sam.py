"""Quasi-superpixels against the golden vectors and against segment_anything's own generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from golden_sam import BlobPredictor, golden_sam
from golden_tools import assert_close, load_case
from sam_tools import EXACT, SPEED, compare_with_sam, decode_golden, find_flipped
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor

from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import Frame, PlainSamPoints, PointPredictor, SamPoints
from fmawsss.tiny.models import tiny_sam

NO_OFFSETS = {
    "iou_offsets": (0.0, 0.0, 0.0),
    "nms_offsets": (0.0, 0.0, 0.0),
    "stability_offsets": (0.0, 0.0, 0.0),
}
OFFICIAL = {
    "points_per_side": 16,
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
def random_sam(seed: int = 0, side: int = 64) -> Sam:
    """Make a SAM of random weights."""
    generator = torch.Generator().manual_seed(seed)
    encoder = ImageEncoderViT(
        img_size=side, patch_size=8, embed_dim=32, depth=1, num_heads=2, out_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=16, num_heads=2, mlp_dim=32)
    decoder = MaskDecoder(
        transformer_dim=16, transformer=transformer, iou_head_depth=2, iou_head_hidden_dim=16
    )
    sam = Sam(
        encoder, PromptEncoder(16, (side // 8, side // 8), (side, side), mask_in_chans=4), decoder
    )
    for parameter in sam.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_(generator=generator)
    return sam.eval()


def build_golden(name: str, params: dict[str, Any]) -> SuperpixelGenerator:
    settings = {RELEASED_NAMES.get(key, key): value for key, value in params.items()}
    settings = {**SPEED, **settings}
    settings.pop("rock_sand_water_chunk_size", None)
    generator = SuperpixelGenerator(golden_sam(), **settings)
    if name.startswith("blob"):
        generator.predictor = BlobPredictor()
    return generator


@pytest.mark.parametrize(
    "name",
    [
        *(
            "blob_fma",
            "blob_fma_c0",
            "blob_fma_lowered",
            "blob_official_default",
            "blob_ssa_default",
        ),
        *(
            "sam_empty",
            "sam_empty_c0",
            "sam_fma_c0",
            "sam_official_default",
            "sam_official_nothresh",
        ),
    ],
)
def test_generation_equals_the_golden_vectors(name: str) -> None:
    arrays, meta = load_case(f"case8_sam/{name}")
    generator, image = build_golden(name, meta["params"]), arrays["image"]
    found = generator.generate(image)
    assert len(found) == meta["n_anns"]
    assert found.size == image.shape[:2]
    if not len(found):
        return
    case = f"case8_sam/{name}"
    flipped = find_flipped(generator, image, found, decode_golden(arrays, found.size))
    assert len(flipped) <= 2  # of tens of thousands of pixels
    same = np.setdiff1d(np.arange(len(found)), flipped[:, 0])
    assert_close(found.area[same], arrays["area"][same], f"{case}:area")
    assert_close(found.box[same], arrays["bbox"][same], f"{case}:bbox")
    assert torch.equal(found.area, found.masks().sum((1, 2)))
    assert_close(found.level, arrays["level"], f"{case}:level")
    assert_close(found.crop, arrays["crop_box"], f"{case}:crop_box")
    assert_close(found.point, arrays["point_coords"][:, 0], f"{case}:point_coords")
    assert_close(found.predicted_iou, arrays["predicted_iou"], f"{case}:predicted_iou")
    # a pixel or two of thousands lie within rounding of the raised and the lowered threshold
    np.testing.assert_allclose(found.stability, arrays["stability_score"], atol=5e-4)


@pytest.mark.parametrize("points", [PlainSamPoints, SamPoints])
def test_the_golden_answers_of_sam_are_reproduced(points: Callable[..., PointPredictor]) -> None:
    arrays, _ = load_case("case8_sam/tiny_sam_raw")
    predictor, size = points(golden_sam(), EXACT), arrays["image"].shape[:2]
    with torch.no_grad():
        crop = next(
            predictor.encode_crops([(arrays["image"], Frame((0, 0, size[1], size[0]), size))], 1)
        )
        answer = predictor.answer_points(crop, arrays["points"])
        drawn = predictor.draw_masks(crop, answer, torch.ones(4, 3, dtype=torch.bool))
        logits = predictor.enlarge_masks(crop, drawn)
    assert_close(answer.iou, arrays["iou_preds"], "case8_sam/tiny_sam_raw:iou_preds")
    assert drawn.shape[1] == 64 or drawn.shape[2] == 64
    # what lies in the padding is drawn by the plain form alone, and not looked at
    low, side = arrays["low_res"], predictor.sam.image_encoder.img_size
    down, right = (-(-length * 64 // side) for length in crop.input_size)
    drawn, low = drawn.unflatten(0, (4, 3))[..., :down, :right], low[..., :down, :right]
    np.testing.assert_allclose(drawn, low, atol=2e-4 * np.abs(low).max())
    np.testing.assert_allclose(
        logits.view(4, 3, *size),
        arrays["masks_logits"],
        atol=2e-4 * np.abs(arrays["masks_logits"]).max(),
    )


def draw_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blocks of colour with noise."""
    rng = np.random.default_rng(seed)
    blocks = (
        rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3)).repeat(16, 0).repeat(16, 1)
    )
    return (blocks[:height, :width] * 0.8 + rng.integers(0, 52, (height, width, 3))).astype(
        np.uint8
    )


@pytest.mark.parametrize("size", [(112, 112), (64, 200), (90, 41)])
@pytest.mark.parametrize("make_sam", [tiny_sam, random_sam])
def test_fast_points_equal_plain_points(make_sam: Callable[[], Sam], size: tuple[int, int]) -> None:
    image, rng = draw_image(*size), np.random.default_rng(1)
    frame = Frame((size[1] // 4, 0, size[1], size[0]), size)
    points = rng.random((6, 2)) * [frame.box[2] - frame.box[0], size[0]]
    wanted = torch.from_numpy(rng.random((6, 3)) < 0.6)
    found = []
    for predictor in (SamPoints(make_sam(), EXACT), PlainSamPoints(make_sam(), EXACT)):
        with torch.no_grad():
            crop = next(predictor.encode_crops([(image, frame)], 1))
            answer = predictor.answer_points(crop, points)
            logits = predictor.draw_masks(crop, answer, wanted)
            found.append((answer.iou, predictor.enlarge_masks(crop, logits)))
    (fast_iou, fast), (iou, plain) = found
    torch.testing.assert_close(fast_iou, iou, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.parametrize("make_sam", [tiny_sam, random_sam])
def test_plain_points_are_a_predictor_like_any_other(make_sam: Callable[[], Sam]) -> None:
    settings = SPEED | OFFICIAL | OPEN | NO_OFFSETS | {"points_per_side": 4, "crop_n_layers": 1}
    settings |= {"recall_threshold": 0.3, "box_nms_thresh": 0.99}
    plain, fast = (
        SuperpixelGenerator(make_sam(), **settings | {"predictor": predictor})
        for predictor in (PlainSamPoints, SamPoints)
    )
    image = draw_image(90, 130)
    found, expected = plain.generate(image), fast.generate(image)
    assert len(found) == len(expected) > 2
    assert torch.equal(found.level, expected.level)
    torch.testing.assert_close(found.predicted_iou, expected.predicted_iou, rtol=0, atol=1e-5)
    assert len(find_flipped(plain, image, found, expected.masks())) <= 2


OPEN = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
LOOSE = {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.4}
MANY_SIZES = [(7, 5), (64, 63), (65, 130), (200, 31), (256, 256), (40, 300)]


@pytest.mark.parametrize(
    ("sam", "size", "settings", "at_least"),
    [
        (tiny_sam, (112, 112), LOOSE, 5),
        (
            tiny_sam,
            (130, 97),
            {**LOOSE, "crop_n_layers": 1, "crop_n_points_downscale_factor": 4},
            3,
        ),
        (
            tiny_sam,
            (80, 201),
            {**LOOSE, "crop_n_layers": 1, "min_mask_region_area": 40, "points_per_side": 8},
            2,
        ),
        (
            tiny_sam,
            (90, 75),
            {**LOOSE, "crop_n_layers": 2, "crop_nms_thresh": 0.5, "points_per_side": 4},
            2,
        ),
        (tiny_sam, (60, 45), {**LOOSE, "points_per_side": 5}, 2),
        (tiny_sam, (333, 250), {**OPEN, "points_per_side": 4, "crop_n_layers": 1}, 1),
        (tiny_sam, (1, 160), {**LOOSE, "points_per_side": 4}, 0),
        (random_sam, (64, 64), {**OPEN, "stability_score_thresh": 0.8, "box_nms_thresh": 1.0}, 20),
        (
            random_sam,
            (70, 41),
            {**OPEN, "crop_n_layers": 1, "box_nms_thresh": 1.0, "points_per_side": 6},
            20,
        ),
        (
            random_sam,
            (33, 90),
            {**OPEN, "min_mask_region_area": 20, "box_nms_thresh": 1.0, "points_per_side": 8},
            20,
        ),
        *(
            (random_sam, size, {**OPEN, "points_per_side": 4, "crop_n_layers": 1}, 1)
            for size in MANY_SIZES
        ),
        *(
            (random_sam, size, {**OPEN, "points_per_side": 4, "box_nms_thresh": 0.99}, 1)
            for size in MANY_SIZES
        ),
    ],
)
def test_without_offsets_and_filter_it_is_sam(
    sam: Callable[[], Sam], size: tuple[int, int], settings: dict[str, Any], at_least: int
) -> None:
    margin = 1.0 if sam is tiny_sam else 1e-3  # random weights give small logits
    settings, image = OFFICIAL | {"stability_score_offset": margin} | settings, draw_image(*size)
    expected = SamAutomaticMaskGenerator(sam(), output_mode="binary_mask", **settings).generate(
        image
    )
    generator = SuperpixelGenerator(sam(), **SPEED | settings, **NO_OFFSETS, recall_threshold=None)
    assert len(expected) >= at_least
    counted = compare_with_sam(generator, image, generator.generate(image), expected)
    assert counted.flipped <= 1e-5 * len(expected) * size[0] * size[1] + 2
    assert counted.at_threshold == 0


def test_several_images_share_the_encoder() -> None:
    settings = SPEED | OFFICIAL | LOOSE | NO_OFFSETS | {"points_per_side": 4, "crop_n_layers": 1}
    generator = SuperpixelGenerator(
        tiny_sam(), **settings | {"recall_threshold": 0.3, "crops_per_batch": 3}
    )
    images = [draw_image(*size) for size in ((112, 90), (60, 112), (1, 1))]
    together, alone = (
        generator.generate_batch(images),
        [generator.generate(image) for image in images],
    )
    assert sum(map(len, alone)) > 4
    for found, expected in zip(together, alone, strict=True):
        assert torch.equal(found.counts, expected.counts)
        assert torch.equal(found.level, expected.level)


def test_masks_are_drawn_in_bounded_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (
        SPEED | OFFICIAL | OPEN | NO_OFFSETS | {"points_per_side": 4, "recall_threshold": None}
    )
    generator, image, sizes = SuperpixelGenerator(tiny_sam(), **settings), draw_image(90, 112), []
    whole = generator.generate(image)
    enlarge = generator.predictor.enlarge_masks

    def watch(crop: Any, logits: Tensor) -> Tensor:
        sizes.append(len(logits))
        return enlarge(crop, logits)

    monkeypatch.setattr(generator.predictor, "enlarge_masks", watch)
    generator.chunk_numbers = 2 * generator.predictor.point_numbers
    chunked = generator.generate(image)
    assert max(sizes) == 6
    assert torch.equal(whole.counts, chunked.counts)


def test_only_masks_that_can_pass_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (
        SPEED
        | OFFICIAL
        | {"pred_iou_thresh": 1.0, "stability_score_thresh": 0.0, "points_per_side": 4}
    )
    offsets = NO_OFFSETS | {"iou_offsets": (0.0, 0.0, 1.0)}
    generator, drawn = (
        SuperpixelGenerator(tiny_sam(), **settings, **offsets, recall_threshold=None),
        [],
    )
    draw = generator.predictor.draw_masks

    def watch(crop: Any, answer: Any, wanted: Tensor) -> Tensor:
        drawn.append(wanted.sum(0).tolist())
        return draw(crop, answer, wanted)

    monkeypatch.setattr(generator.predictor, "draw_masks", watch)
    found = generator.generate(draw_image(112, 112))
    assert torch.tensor(drawn).sum(0).tolist() == [0, 0, 16]
    assert set(found.level.tolist()) == {2}


def test_offsets_move_thresholds_and_ranks_but_not_scores() -> None:
    settings = build_blobs(pred_iou_thresh=0.86, recall_threshold=None)
    plain, ranked = (
        settings(nms_offsets=(0.0, 0.0, n)).generate(draw_image(100, 120)) for n in (0.0, 1.0)
    )
    assert plain.predicted_iou.tolist() == sorted(plain.predicted_iou.tolist(), reverse=True)
    wholes = int((ranked.level == 2).sum())
    assert (ranked.level[:wholes] == 2).all()
    assert float(ranked.predicted_iou.max()) < 1
    steady = settings(stability_offsets=(-1.0, 0.0, -1.0)).generate(draw_image(100, 120))
    assert set(steady.level.tolist()) == {1}
    assert float(steady.stability.min()) > 0.9
    eager = settings(iou_offsets=(0.0, 1.0, 0.0)).generate(draw_image(100, 120))
    assert (
        float(eager.predicted_iou[eager.level == 1].min())
        < 0.86
        < float(eager.predicted_iou[eager.level == 0].min())
    )


def build_blobs(**fixed: Any) -> Callable[..., SuperpixelGenerator]:
    """Prepare generators that ask the analytic predictor."""

    def build(**settings: Any) -> SuperpixelGenerator:
        generator = SuperpixelGenerator(
            golden_sam(), **(SPEED | OFFICIAL | NO_OFFSETS | fixed | settings)
        )
        generator.predictor = BlobPredictor()
        return generator

    return build


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (2, 700), (112, 112)])
@pytest.mark.parametrize("recall_threshold", [0.3, None])
def test_an_image_without_masks_has_an_empty_record(
    size: tuple[int, int], recall_threshold: float | None
) -> None:
    settings = (
        SPEED
        | OFFICIAL
        | NO_OFFSETS
        | {"pred_iou_thresh": 9.0, "points_per_side": 4, "min_mask_region_area": 9}
    )
    settings |= {"crop_n_layers": 2, "recall_threshold": recall_threshold}
    found = SuperpixelGenerator(tiny_sam(), **settings).generate(draw_image(*size))
    assert len(found) == 0
    assert found.size == size
    assert found.masks().shape == (0, *size)


def test_settings_and_images_that_make_no_sense_are_refused() -> None:
    settings = SPEED | OFFICIAL | NO_OFFSETS | {"recall_threshold": None}
    with pytest.raises(ValueError, match="points_per_side=2 leaves no point in crop layer 1"):
        SuperpixelGenerator(
            tiny_sam(),
            **settings
            | {"points_per_side": 2, "crop_n_layers": 1, "crop_n_points_downscale_factor": 3},
        )
    with pytest.raises(ValueError, match=r"nms_offsets=\[0.0, 1.0\]: expected three numbers"):
        SuperpixelGenerator(tiny_sam(), **settings | {"nms_offsets": (0.0, 1.0)})
    generator = SuperpixelGenerator(tiny_sam(), **settings)
    for image in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ):
        with pytest.raises((ValueError, TypeError)):
            generator.generate(image)


def test_the_generator_learns_nothing_and_leaves_no_graph() -> None:
    generator = SuperpixelGenerator(
        tiny_sam(), **SPEED | OFFICIAL | LOOSE | NO_OFFSETS | {"recall_threshold": 0.3}
    ).train()
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert not generator.generate(draw_image(50, 50)).predicted_iou.requires_grad
