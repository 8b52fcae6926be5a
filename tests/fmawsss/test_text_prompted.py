"""Text-prompted models: the formula of their maps, and what phrases and weights they take."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers", minversion="5.0")

from text_tools import build_clip_tokenizer, build_sam3, write_sam3
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

from fmawsss.scores import BackgroundThreshold, resize_maps
from fmawsss.seeding import CamSeeder
from fmawsss.text_prompted.maps import (
    Found,
    TextSource,
    divide_by_best,
    keep_scores,
    keep_sure,
    map_class,
)
from fmawsss.text_prompted.phrases import list_phrases
from fmawsss.text_prompted.sam3 import Sam3Source, load_sam3

CLASSES, PROMPTS = ("circle", "square", "ring"), ("circle", "square shape", "ring,band")
IMAGE = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)


def draw_found(objects: int, semantic: bool, seed: int) -> Found:
    draw = torch.Generator().manual_seed(seed)
    masks = 3 * torch.randn(objects, 4, 5, generator=draw)
    scores = torch.rand(objects, generator=draw)
    whole = 3 * torch.randn(4, 5, generator=draw) if semantic else None
    return Found(masks, scores, torch.rand(objects, 4, generator=draw), whole)


def map_slowly(found: list[Found], least: float) -> np.ndarray:
    """METHOD 11.4, pixel by pixel."""
    best = np.zeros((4, 5))
    for row in range(4):
        for column in range(5):
            for each in found:
                for mask, score in zip(each.masks, each.scores, strict=True):
                    if score > least:
                        inside = 1 / (1 + math.exp(-mask[row, column]))
                        best[row, column] = max(best[row, column], inside * float(score))
                if each.semantic is not None:
                    inside = 1 / (1 + math.exp(-each.semantic[row, column]))
                    best[row, column] = max(best[row, column], inside)
    return best


@pytest.mark.parametrize("semantic", [True, False])
def test_the_map_of_a_class_is_the_formula(semantic: bool) -> None:
    found = [draw_found(3, semantic, 1), draw_found(0, semantic, 2), draw_found(2, semantic, 3)]
    kept = [keep_sure(each, 0.8) for each in found]
    expected = map_slowly(found, 0.8)
    np.testing.assert_allclose(map_class(keep_scores(kept)), expected, atol=1e-6)
    assert not np.allclose(map_slowly(found, 0.0), expected)  # the threshold decides something


def test_nothing_found_is_nowhere() -> None:
    assert map_class([draw_found(0, False, 1)]).eq(0).all()


def test_at_half_and_below_is_background() -> None:
    maps = torch.tensor([[[0.5, 0.51, 0.2]], [[0.1, 0.6, 0.55]]])
    seeder = CamSeeder(resize_maps, BackgroundThreshold(0.5), None)
    seed = seeder(maps, torch.tensor([4, 7]), None, (1, 3))
    assert seed.labels.tolist() == [[0, 8, 8]]


def test_the_best_object_of_a_class_is_certain() -> None:
    first, second = draw_found(2, False, 1), draw_found(3, False, 2)
    best = max(float(first.scores.max()), float(second.scores.max()))
    given = divide_by_best([first, draw_found(0, False, 3), second])
    torch.testing.assert_close(given[0].scores, first.scores / best)
    assert max(float(each.scores.max()) for each in given if len(each.scores)) == 1


def test_sam3_answers_as_transformers_does_with_padding() -> None:
    model, tokenizer = build_sam3(), build_clip_tokenizer()
    source = Sam3Source(model, tokenizer, least_score=0.3)
    assert isinstance(source, TextSource)
    phrases = ["circle", "a round square"]
    with torch.inference_mode():
        found = source.find(IMAGE, phrases)
        pixels = source.prepare_image(IMAGE)[None].expand(2, -1, -1, -1)
        tokenizer.enable_padding(pad_id=1, length=8)
        rows = tokenizer.encode_batch(phrases)
        expected = model(
            pixel_values=pixels,
            input_ids=torch.tensor([row.ids for row in rows]),
            attention_mask=torch.tensor([row.attention_mask for row in rows]),
        )
    for index, each in enumerate(found):
        scores = expected.pred_logits[index].sigmoid()
        sure = scores > 0.3
        assert sure.any()
        torch.testing.assert_close(each.scores, scores[sure], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            each.masks, expected.pred_masks[index][sure], atol=1e-4, rtol=1e-3
        )
        torch.testing.assert_close(
            each.boxes, expected.pred_boxes[index][sure], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            each.semantic, expected.semantic_seg[index, 0], atol=1e-4, rtol=1e-3
        )


def test_sam3_sees_images_as_its_own_processor_prepares_them() -> None:
    smooth = np.linspace(0, 255, 75 * 100 * 3).reshape(75, 100, 3).astype(np.uint8)
    source = Sam3Source(build_sam3(), build_clip_tokenizer(), 0.3)
    own = Sam3ImageProcessor(size={"height": 56, "width": 56})(smooth, return_tensors="pt")
    difference = (source.prepare_image(smooth) - own["pixel_values"][0]).abs()
    assert float(difference.max()) < 3 / 127.5  # grey levels, for both round


def test_a_photo_at_the_size_that_sam3_sees() -> None:
    source = Sam3Source(build_sam3(side=1008), build_clip_tokenizer(), 0.3)
    photo = np.random.default_rng(1).integers(0, 256, (750, 1000, 3), dtype=np.uint8)
    with torch.inference_mode():
        found = source.find(photo, ["circle", "star"])
    assert {tuple(each.masks.shape[1:]) for each in found} == {(288, 288)}
    assert resize_maps(map_class(found)[None], (750, 1000)).shape == (1, 750, 1000)


def test_phrases_are_prompt_names_unless_given() -> None:
    assert list_phrases(CLASSES, PROMPTS, None) == [("circle",), ("square shape",), ("ring,band",)]
    given = list_phrases(CLASSES, PROMPTS, {"ring": [" ring", "finger ring "], "circle": ["disc"]})
    assert given == [("disc",), ("square shape",), ("ring", "finger ring")]


@pytest.mark.parametrize(
    ("phrases", "said"),
    [
        ({"moon": ["moon"]}, "'moon', which is no class: expected one of circle, square, ring"),
        ({"ring": []}, "ring has no phrase"),
        ({"ring": [""]}, "ring has '' for a phrase"),
        ({"ring": [3]}, "ring has 3 for a phrase"),
        ({"ring": "ring"}, r"expected a list: \[ring\]"),
        ({"ring": 3}, r"expected a list: \[3\]"),
        (["ring"], "expected classes with lists"),
        ({"ring": ["a\nb"]}, "no line of at most 200 characters"),
        ({"ring": ["a" * 201]}, "no line of at most 200 characters"),
    ],
)
def test_phrases_that_are_none_are_refused(phrases, said) -> None:
    with pytest.raises(ValueError, match=f"dataset.phrases.*{said}"):
        list_phrases(CLASSES, PROMPTS, phrases)


def test_a_phrase_that_sam3_cannot_read_is_refused() -> None:
    source = Sam3Source(build_sam3(), build_clip_tokenizer(), 0.3)
    source.check_phrase("a round circle")
    with pytest.raises(ValueError, match="has 9 tokens, SAM 3 reads 8"):
        source.check_phrase("a a a a a a a")


def test_sam3_is_loaded_from_its_folder(tmp_path: Path) -> None:
    model = write_sam3(tmp_path)
    loaded = load_sam3(tmp_path, 0.3)
    pairs = zip(model.parameters(), loaded.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_sam3_is_found_within_the_model_of_videos(tmp_path: Path) -> None:
    model = write_sam3(tmp_path)
    weights = {
        f"detector_model.{k}": v for k, v in load_file(tmp_path / "model.safetensors").items()
    }
    weights["tracker_model.weight"] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    inner = json.loads((tmp_path / "config.json").read_text())
    outer = {
        "model_type": "sam3_video",
        "detector_config": inner,
        "architectures": ["Sam3VideoModel"],
    }
    (tmp_path / "config.json").write_text(json.dumps(outer))
    loaded = load_sam3(tmp_path, 0.3)
    pairs = zip(model.parameters(), loaded.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert loaded.side == 56


def test_what_is_no_whole_sam3_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config.json is missing.*ask at.*3\.4 GB.*into"):
        load_sam3(tmp_path, 0.3)
    write_sam3(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, content = weights.read_bytes(), load_file(weights)

    # cut off, a weight missing, weights that are no numbers
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="holds no whole Sam3Model"):
        load_sam3(tmp_path, 0.3)
    first = min(content)
    save_file({k: v for k, v in content.items() if k != first}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"no whole Sam3Model \(1 weights are missing, e\.g\. "):
        load_sam3(tmp_path, 0.3)
    save_file({**content, first: content[first] * float("nan")}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match="are no numbers"):
        load_sam3(tmp_path, 0.3)
    weights.write_bytes(whole)

    # another model, no model, a tokenizer that is none
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "model_type": "clip"}))
    with pytest.raises(ValueError, match="of kind 'clip', expected sam3"):
        load_sam3(tmp_path, 0.3)
    config.write_text("[]")
    with pytest.raises(ValueError, match="of kind None"):
        load_sam3(tmp_path, 0.3)
    config.write_text(json.dumps(settings))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        load_sam3(tmp_path, 0.3)
