"""The training views agree with the models they train, and the command makes both files."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fmawsss.tiny import pretrain
from fmawsss.tiny.models import (
    ClipArchitecture,
    SamArchitecture,
    build_clip,
    build_sam,
    known_words,
    tiny_clip,
    tiny_sam,
)
from fmawsss.tiny.muon import Muon, orthogonalise
from fmawsss.tiny.pretrain_clip_batches import Reader
from fmawsss.tiny.pretrain_clip_model import ClipTrainer, encode_patches
from fmawsss.tiny.pretrain_sam_forward import decode_points, encode_images, order_by_token


@torch.no_grad()
def test_clip_training_view_computes_what_open_clip_computes() -> None:
    clip, reader = build_clip(ClipArchitecture()).eval(), Reader()
    trainer = ClipTrainer(clip, reader.token_ids, 3, torch.ones(9))
    images, texts = torch.randn(2, 3, 112, 112), ["a photo of a moon.", "two rings"]

    _, patches = encode_patches(
        clip.visual, images, torch.tensor([0, 0]), torch.arange(196).expand(2, -1)
    )
    feature = patches.mean(1)
    torch.testing.assert_close(feature, clip.encode_image(images), rtol=1e-4, atol=1e-4)
    text = trainer.encode_texts(reader.read(texts[:1]))
    torch.testing.assert_close(
        text, clip.encode_text(reader.tokenize(texts[:1])), rtol=1e-4, atol=1e-4
    )


def test_muon_moves_every_direction_alike() -> None:
    left, _, right = torch.linalg.svd(
        torch.randn(3, 8, 24, dtype=torch.float64), full_matrices=False
    )
    matrices = left * torch.logspace(0, -2, 8, dtype=torch.float64) @ right
    found = torch.linalg.svdvals(orthogonalise(matrices))
    assert found.min() > 0.6
    assert found.max() < 1.3
    torch.testing.assert_close(orthogonalise(matrices.mT), orthogonalise(matrices).mT)


def test_muon_descends_on_queries_keys_and_values_apart() -> None:
    stacked, alone = nn.Parameter(torch.zeros(24, 8)), nn.Parameter(torch.zeros(8, 8))
    gradient = torch.randn(24, 8)
    stacked.grad, alone.grad = gradient.clone(), gradient[8:16].clone()
    for parameter in (stacked, alone):
        Muon([parameter], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(stacked[8:16], alone)
    assert (stacked.detach() * gradient).sum() < 0


@torch.no_grad()
@pytest.mark.parametrize(
    "architecture", [SamArchitecture(), SamArchitecture(patch_size=4, global_blocks=(3,))]
)
def test_sam_training_view_computes_what_segment_anything_computes(
    architecture: SamArchitecture,
) -> None:
    sam, images = build_sam(architecture).eval(), torch.randn(2, 3, 112, 112)
    points = torch.rand(6, 2) * 112
    corner = torch.tensor([0, 0])

    features = encode_images(sam.image_encoder, images, corner)
    expected = sam.image_encoder(images)
    torch.testing.assert_close(features.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-4)
    logits, quality = decode_points(sam, features, points, corner)
    for i in range(2):
        prompt = (points[3 * i : 3 * i + 3, None] - 0.5, torch.ones(3, 1))
        sparse, dense = sam.prompt_encoder(points=prompt, boxes=None, masks=None)
        masks, overlap = sam.mask_decoder.predict_masks(
            expected[i : i + 1], sam.prompt_encoder.get_dense_pe(), sparse, dense
        )
        ordered = order_by_token(masks.flatten(0, 1), features.shape[1]).view(3, 4, -1)
        torch.testing.assert_close(logits[3 * i : 3 * i + 3], ordered, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(quality[3 * i : 3 * i + 3], overlap, rtol=1e-4, atol=1e-4)


def test_command_makes_both_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", pretrain.MALLOC_SETTINGS)  # gone after the test
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(tmp_path), "--scale", "0.0001"])
    pretrain.main()
    assert tiny_sam(tmp_path / "sam.safetensors").image_encoder.img_size == 112
    assert tiny_clip(tmp_path / "clip.safetensors").visual.image_size == (112, 112)
    assert "moon" in known_words(tmp_path / "clip.safetensors")
