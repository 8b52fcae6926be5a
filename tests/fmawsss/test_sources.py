"""Sources of superpixels beside SAM: SAM 2.1 with random weights, and classic regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sam_tools import SPEED
from skimage.segmentation import felzenszwalb, slic
from torch.nn.functional import interpolate
from transformers import Sam2Config, Sam2Model

from fmawsss.files import downloads
from fmawsss.files.storage import read_superpixels, write_superpixels
from fmawsss.sam.classic import ClassicSuperpixels
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import Frame, PointPredictor
from fmawsss.sam.sam2 import MEAN, STD, Sam2Points, load_sam2

IMAGE = (
    np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8).repeat(12, 0).repeat(14, 1)
)
SETTINGS: dict[str, Any] = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "stability_score_offset": 1e-3,
    "box_nms_thresh": 0.99,
    "crop_n_layers": 1,
    "crop_nms_thresh": 0.99,
    "crop_overlap_ratio": 0.34,
    "crop_n_points_downscale_factor": 2,
    "min_mask_region_area": 5,
    "iou_offsets": (0.0, 0.0, 0.1),
    "nms_offsets": (0.0, 0.0, 1.0),
    "stability_offsets": (0.0, 0.0, 0.0),
    "recall_threshold": None,
}


@pytest.fixture(scope="module")
def tiny_sam2() -> Sam2Model:
    torch.manual_seed(0)
    backbone = {
        "hidden_size": 16, "num_attention_heads": 1, "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3],
        "model_type": "sam2_hiera_det_model",
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [128, 64, 32, 16],
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "model_type": "sam2_vision_model",
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 16}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }
    config = Sam2Config(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    return Sam2Model(config).eval()


def test_sam2_answers_as_transformers_does(tiny_sam2: Sam2Model) -> None:
    predictor, size = Sam2Points(tiny_sam2), (48, 70)
    assert isinstance(predictor, PointPredictor)
    points = np.array([[10.0, 20.0], [60.0, 5.0]])
    wanted = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        crop = next(predictor.encode_crops([(IMAGE, Frame((0, 0, 70, 48), size))], 1))
        answer = predictor.answer_points(crop, points)
        logits = predictor.enlarge_masks(crop, predictor.draw_masks(crop, answer, wanted))
        pixels = predictor._prepare_input(IMAGE)
        expected = tiny_sam2(
            pixel_values=pixels[None],
            input_points=torch.tensor(points * [64 / 70, 64 / 48]).float()[None, :, None],
            multimask_output=True,
        )
    assert pixels.shape == (3, 64, 64)
    assert float(pixels[0].max()) <= (1 - MEAN[0]) / STD[0] + 1e-6
    torch.testing.assert_close(answer.iou, expected.iou_scores[0])
    large = interpolate(expected.pred_masks[0], size, mode="bilinear")[wanted]
    torch.testing.assert_close(logits, large, atol=1e-6, rtol=1e-5)


def test_sam2_gives_the_same_record(tiny_sam2: Sam2Model, tmp_path: Path) -> None:
    found = SuperpixelGenerator(Sam2Points(tiny_sam2), **SPEED, **SETTINGS).generate(IMAGE)
    assert len(found) > 3
    assert set(found.level.tolist()) <= {0, 1, 2}
    write_superpixels(tmp_path / "a.npz", found, "f")
    assert torch.equal(read_superpixels(tmp_path / "a.npz", "f").counts, found.counts)


def test_sam2_is_loaded_from_its_folder_and_asked_for_otherwise(
    tiny_sam2: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_sam2.save_pretrained(tmp_path / "here")
    loaded = load_sam2("some/where", tmp_path / "here")
    assert all(
        map(torch.equal, loaded.model.state_dict().values(), tiny_sam2.state_dict().values())
    )

    def fail(url: str, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr(downloads, "urlopen", fail)
    with pytest.raises(
        FileNotFoundError,
        match=r"there/config\.json.*https://.*some/where/resolve/main/config\.json",
    ):
        load_sam2("some/where", tmp_path / "there")
    weights, content = (
        tmp_path / "here/model.safetensors",
        load_file(tmp_path / "here/model.safetensors"),
    )
    whole = weights.read_bytes()
    content.pop(min(name for name in content if name.startswith("mask_decoder")))
    save_file(content, weights, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"holds no whole SAM 2 \(1 weights are missing, e\.g\. mask_decoder"
    ):
        load_sam2("some/where", tmp_path / "here")
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="holds no whole SAM 2"):
        load_sam2("some/where", tmp_path / "here")
    weights.write_bytes(whole)
    (tmp_path / "here/config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no whole SAM 2"):
        load_sam2("some/where", tmp_path / "here")


@pytest.mark.parametrize("segment", [felzenszwalb, slic])
def test_classic_regions_are_a_partition_of_wholes(segment: Any, tmp_path: Path) -> None:
    found = ClassicSuperpixels(segment, longest=1024).generate_batch([IMAGE])[0]
    assert len(found) > 5
    assert torch.equal(found.masks().sum(0), torch.ones(48, 70, dtype=torch.int64))
    assert set(found.level.tolist()) == {2}
    assert set(found.predicted_iou.tolist()) == set(found.stability.tolist()) == {1.0}
    assert found.point.isnan().all()
    left, top, width, height = found.box[0].tolist()
    rows, columns = np.nonzero(found.masks()[0].numpy())
    assert (left, top, left + width, top + height) == (
        columns.min(),
        rows.min(),
        columns.max(),
        rows.max(),
    )
    write_superpixels(tmp_path / "a.npz", found, "f")
    assert torch.equal(read_superpixels(tmp_path / "a.npz").masks(), found.masks())


def test_one_colour_is_one_region() -> None:
    found = ClassicSuperpixels(felzenszwalb, longest=1024).generate_batch(
        [np.zeros((9, 7, 3), np.uint8)]
    )[0]
    assert found.area.tolist() == [63]
