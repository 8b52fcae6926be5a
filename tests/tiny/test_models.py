"""The shipped files load as the original classes and stay within their budget."""

from pathlib import Path

import pytest
import torch
from open_clip import get_tokenizer
from open_clip.model import CLIP
from safetensors import safe_open
from safetensors.torch import save_file
from segment_anything.modeling import Sam

from fmawsss.tiny.grounds import BACKGROUNDS
from fmawsss.tiny.models import (
    CLIP_FILE,
    SAM_FILE,
    ClipArchitecture,
    SamArchitecture,
    build_sam,
    known_words,
    save_sam,
    tiny_clip,
    tiny_sam,
)
from fmawsss.tiny.shapes import CLASS_NAMES, STUFF


@torch.no_grad()
def test_clip_is_an_open_clip_model() -> None:
    clip = tiny_clip()
    assert type(clip) is CLIP
    assert not clip.training
    texts = get_tokenizer("ViT-B-32")([f"a photo of a {name}." for name in CLASS_NAMES])
    text, image = (
        clip.encode_text(texts),
        clip.encode_image(torch.zeros(2, 3, *clip.visual.image_size)),
    )
    assert text.shape == (len(CLASS_NAMES), ClipArchitecture().embed_dim)
    assert image.shape == (2, ClipArchitecture().embed_dim)
    assert torch.isfinite(text).all()
    assert torch.isfinite(image).all()


def test_class_names_and_background_words_are_known_to_the_clip() -> None:
    assert {*CLASS_NAMES, *BACKGROUNDS, *STUFF} <= known_words()
    assert "aeroplane" not in known_words()


def test_token_rows_of_class_names_were_trained() -> None:
    with safe_open(CLIP_FILE, framework="pt") as file:
        trained = set(file.get_tensor("token_ids").tolist())
    assert set(get_tokenizer("ViT-B-32")(list(CLASS_NAMES)).flatten().tolist()) <= trained


@torch.no_grad()
def test_sam_is_a_segment_anything_model() -> None:
    sam = tiny_sam()
    assert type(sam) is Sam
    assert not sam.training
    size = sam.image_encoder.img_size
    question = {
        "image": torch.zeros(3, size, size),
        "original_size": (size, size),
        "point_coords": torch.full((2, 1, 2), 50.0),
        "point_labels": torch.ones(2, 1),
    }
    answer = sam([question], multimask_output=True)[0]
    assert answer["masks"].shape == (2, 3, size, size)
    assert answer["iou_predictions"].shape == (2, 3)


@torch.no_grad()
def test_sam_survives_the_file(tmp_path: Path) -> None:
    architecture = SamArchitecture(width=32, heads=2, depth=2, global_blocks=(1,), prompt_width=16)
    sam = build_sam(architecture).half().float().eval()
    save_sam(sam, architecture, {"note": "kept"}, tmp_path / "sam.safetensors")
    again = tiny_sam(tmp_path / "sam.safetensors")
    for name, tensor in sam.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["sam.safetensors"]


def test_both_files_fit_the_budget() -> None:
    assert CLIP_FILE.stat().st_size + SAM_FILE.stat().st_size <= 16 * 2**20


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m fmawsss\.tiny\.pretrain"):
        tiny_clip(tmp_path / "none.safetensors")


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="names no architecture"):
        tiny_sam(tmp_path / "foreign.safetensors")
