"""Grounding DINO finds boxes for phrases, SAM their masks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers", minversion="5.0")

from segment_anything import SamPredictor
from text_tools import build_bert_tokenizer, build_grounding_dino, write_grounding_dino

from fmawsss.files import downloads
from fmawsss.sam.boxes import SamBoxes
from fmawsss.sam.encoder import FusedEncoder
from fmawsss.text_prompted.grounding_dino import GroundingDinoSource, load_grounding_dino
from fmawsss.text_prompted.maps import TextSource
from fmawsss.tiny.models import tiny_sam

EXACT = partial(FusedEncoder, dtype=torch.float32, bias_numbers=1 << 22, compile=None)
IMAGE = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
PHRASES = ["circle", "a round square", "star, moon", "ring", "cross", "a heart"]
SETTINGS: dict[str, Any] = {"least_score": 0.3, "shortest": 60, "longest": 96}


@pytest.fixture(scope="module")
def source() -> GroundingDinoSource:
    boxes = SamBoxes(tiny_sam(), EXACT)
    return GroundingDinoSource(
        build_grounding_dino(),
        build_bert_tokenizer(),
        boxes,
        least_score=0.3,
        shortest=60,
        longest=96,
    )


def test_sam_answers_boxes_as_its_own_predictor_does() -> None:
    sam = tiny_sam()
    boxes, corners = (
        SamBoxes(sam, EXACT),
        np.array([[10.0, 5.0, 60.0, 70.0], [0.0, 0.0, 99.0, 30.0]]),
    )
    predictor = SamPredictor(sam)
    predictor.set_image(IMAGE)
    with torch.inference_mode():
        relative = torch.from_numpy(corners / [100, 75, 100, 75]).float()
        found = boxes.draw_boxes(boxes.encode_image(IMAGE), relative)
        for logits, corner in zip(found, corners, strict=True):
            _, _, low = predictor.predict(box=corner, multimask_output=False, return_logits=True)
            side = sam.image_encoder.img_size
            large = torch.nn.functional.interpolate(
                torch.from_numpy(low)[None], (side, side), mode="bilinear", align_corners=False
            )[0, 0, : logits.shape[0], : logits.shape[1]]
            torch.testing.assert_close(logits, large, atol=1e-2, rtol=1e-3)
        assert boxes.draw_boxes(boxes.encode_image(IMAGE), relative[:0]).shape == (
            0,
            *found.shape[1:],
        )


def test_scores_are_those_of_a_phrases_best_token(source: GroundingDinoSource) -> None:
    """One prompt, joined by dots as the library's own processor joins candidates."""
    assert isinstance(source, TextSource)
    phrases = PHRASES[:3]
    ids = [101, *encode("circle . a round square . star , moon ."), 102]
    with torch.inference_mode():
        found = source.find(IMAGE, phrases)
        pixels = source.prepare_image(IMAGE)[None]
        output = source.model(pixel_values=pixels, input_ids=torch.tensor([ids]))
    tokens = [slice(1, 2), slice(3, 6), slice(7, 10)]
    for each, place in zip(found, tokens, strict=True):
        scores = output.logits[0].sigmoid()[:, place].amax(1)
        sure = scores > 0.3
        assert sure.any()
        torch.testing.assert_close(each.scores, scores[sure])
        x, y, width, height = output.pred_boxes[0][sure].unbind(1)
        left, bottom = each.boxes[:, 0], each.boxes[:, 3]
        torch.testing.assert_close(left, (x - width / 2).clamp(0, 1))
        torch.testing.assert_close(bottom, (y + height / 2).clamp(0, 1))
        assert each.masks.shape == (int(sure.sum()), 84, 112)
        assert each.semantic is None


def encode(text: str) -> list[int]:
    return build_bert_tokenizer().encode(text, add_special_tokens=False).ids


def test_phrases_that_do_not_fit_one_prompt_are_asked_in_several(source, monkeypatch) -> None:
    prompts: list[list[int]] = []
    detect = source._detect
    monkeypatch.setattr(
        source,
        "_detect",
        lambda pixels, prompt: prompts.append([*prompt]) or detect(pixels, prompt),
    )
    with torch.inference_mode():
        found = source.find(IMAGE, PHRASES)
    assert len(found) == len(PHRASES)
    assert len(prompts) == 2
    assert all(len(prompt) <= 16 and prompt[0] == 101 and prompt[-1] == 102 for prompt in prompts)
    inner = [token for prompt in prompts for token in prompt[1:-1] if token != 1012]
    assert inner == encode(" ".join(PHRASES))


@pytest.mark.parametrize("phrase", ["st. bernard", "circle.", "ring?", "."])
def test_dots_and_question_marks_separate_phrases(source, phrase) -> None:
    with pytest.raises(ValueError, match="dots and question marks separate them"):
        source.check_phrase(phrase)


def test_commas_do_not_but_length_counts(source) -> None:
    source.check_phrase("circle, ring")
    with pytest.raises(ValueError, match="has 14 tokens, Grounding DINO reads 1 to 13"):
        source.check_phrase("a " * 14)


@pytest.mark.parametrize(
    ("size", "seen"), [((750, 1000), (60, 80)), ((100, 1000), (10, 96)), ((9, 9), (60, 60))]
)
def test_images_are_seen_between_two_sizes(source, size, seen) -> None:
    assert source.prepare_image(np.zeros((*size, 3), np.uint8)).shape == (3, *seen)


def test_a_photo_at_the_size_that_the_detector_sees() -> None:
    boxes = SamBoxes(tiny_sam(), EXACT)
    source = GroundingDinoSource(
        build_grounding_dino(), build_bert_tokenizer(), boxes, 0.3, shortest=800, longest=1333
    )
    photo = np.random.default_rng(1).integers(0, 256, (750, 1000, 3), dtype=np.uint8)
    with torch.inference_mode():
        assert source.prepare_image(photo).shape == (3, 800, 1067)
        assert len(source.find(photo, ["circle", "star"])) == 2


def load(folder: Path, sam: Any = None) -> GroundingDinoSource:
    chosen = tiny_sam() if sam is None else sam
    return load_grounding_dino("some/where", folder, 690_000_000, chosen, EXACT, **SETTINGS)


def test_grounding_dino_is_loaded_from_its_folder(tmp_path: Path, monkeypatch) -> None:
    model = write_grounding_dino(tmp_path / "here")
    loaded = load(tmp_path / "here")
    pairs = zip(model.parameters(), loaded.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())

    # elsewhere it is asked for, file by file
    def fail(url: str, timeout: float) -> None:
        raise OSError("no network")

    monkeypatch.setattr(downloads, "urlopen", fail)
    with pytest.raises(
        FileNotFoundError, match=r"there/config\.json.*some/where/resolve/main/conf"
    ):
        load(tmp_path / "there")
    (tmp_path / "here/model.safetensors").rename(tmp_path / "here/pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"here/model\.safetensors is missing"):
        load(tmp_path / "here")


def test_what_is_no_whole_grounding_dino_is_refused(tmp_path: Path) -> None:
    write_grounding_dino(tmp_path)
    with pytest.raises(ValueError, match="needs a SAM that draws the masks of boxes"):
        load(tmp_path, torch.nn.Identity())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, settings = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="no whole GroundingDinoForObjectDetection"):
        load(tmp_path)
    content = load_file(save(weights, whole))
    content.pop("model.level_embed")
    save_file(content, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing, e\.g\. model\.level_embed"):
        load(tmp_path)
    save(weights, whole)
    config.write_text(json.dumps({**settings, "model_type": "sam3"}))
    with pytest.raises(ValueError, match="of kind 'sam3', expected grounding-dino"):
        load(tmp_path)
    config.write_text(json.dumps(settings))
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("[CLS]", "<s>"))
    with pytest.raises(ValueError, match=r"has no \[CLS\]: it is of another model"):
        load(tmp_path)


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
