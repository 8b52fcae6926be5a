from __future__ import annotations

import time

import open_clip
import pytest
import torch
from golden_clip import DTYPES, freeze, load_state, make_golden_clip, make_small_clip
from golden_tools import assert_close, load_case
from open_clip.model import CustomTextCLIP

import fmawsss.clip.blocks as block_file
from fmawsss.clip.encoder import FrozenClip
from fmawsss.clip.fixed_positions import FixedPositionClip
from fmawsss.clip.positions import resize_positions
from fmawsss.clip.weights import open_clip_tokenizer
from fmawsss.tiny.models import tiny_clip

CASES = [
    "A_native_adapt0",
    "A_native_adapt1",
    "A_nonnative_adapt1",
    "A_nonnative_tall_adapt1",
    "A_padded_adapt1",
    "A_padded_native_adapt0",
    "A_padded_native_adapt1",
]


def test_openai_keys_fill_every_weight():
    loaded, expected = make_golden_clip(torch.float32).clip.state_dict(), load_state()
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_images_match_golden_vectors(case, dtype):
    arrays, meta = load_case(f"case1_clip/{case}")
    clip = make_golden_clip(dtype, FrozenClip if meta["adaptive_pos_emb"] else FixedPositionClip)
    padding = torch.from_numpy(arrays["padding_mask"]) if "padding_mask" in arrays else None
    images = torch.from_numpy(arrays["img"]).to(dtype)
    tokens = clip.encode_images(images, padding, attention_blocks=8)

    check = {name: f"case1_clip/{case}:{name}" for name in arrays}
    assert_close(clip.pool_images(tokens), arrays["img_emb_f64"], check["img_emb_f64"])
    assert_close(clip.open_last_block(tokens).features, arrays["img_emb_f64"], check["img_emb_f64"])
    assert_close(
        clip.read_activations(tokens),
        arrays["gcam_avt_f64"].transpose(1, 0, 2)[:, 1:],
        check["gcam_avt_f64"],
    )
    projected = clip.project_tokens(tokens)
    assert_close(projected[:, 0], arrays["cls_emb_f64"], check["cls_emb_f64"])
    assert_close(projected[:, 1:], arrays["patch_emb_f64"], check["patch_emb_f64"])

    attention = arrays["att_weights_f64"][:, :, 1:, 1:]
    assert_close(tokens.attention, attention.mean(0), check["att_weights_f64"])
    for blocks in (1, 2):
        partial = clip.encode_images(images, padding, blocks).attention
        assert_close(partial, attention[-blocks:].mean(0), check["att_weights_f64"])
    if "pos_emb_f64" in arrays:
        positions = clip.place_positions(tokens.grid, None if padding is None else tokens.valid)
        assert_close(
            positions.reshape(arrays["pos_emb_f64"].shape),
            arrays["pos_emb_f64"],
            check["pos_emb_f64"],
        )
    if padding is not None:
        assert_close(~tokens.valid, arrays["key_padding_mask"][:, 1:], "valid patches")


def test_padded_batch_equals_its_images_one_by_one():
    clip = freeze(make_small_clip()).double()
    sizes = [(64, 48), (32, 80), (64, 80)]
    images, padding = (
        torch.zeros(3, 3, 64, 80, dtype=torch.float64),
        torch.ones(3, 64, 80, dtype=torch.bool),
    )
    singles = [torch.randn(1, 3, *size, dtype=torch.float64) for size in sizes]
    for index, ((height, width), single) in enumerate(zip(sizes, singles, strict=True)):
        images[index, :, :height, :width], padding[index, :height, :width] = single[0], False
    batch = clip.encode_images(images, padding, attention_blocks=3)
    for index, single in enumerate(singles):
        alone, keep = clip.encode_images(single, None, attention_blocks=3), batch.valid[index]
        torch.testing.assert_close(clip.pool_images(batch)[index], clip.pool_images(alone)[0])
        torch.testing.assert_close(batch.attention[index][keep][:, keep], alone.attention[0])
        torch.testing.assert_close(batch.inputs[index, 1:][keep], alone.inputs[0, 1:])


def test_padding_need_not_fill_a_patch():
    clip = freeze(make_small_clip())
    padding = torch.zeros(1, 48, 48, dtype=torch.bool)
    padding[:, 17:] = True
    valid = clip.encode_images(torch.randn(1, 3, 48, 48), padding, 0).valid
    assert valid.view(3, 3).tolist() == [[True] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize(
    "model",
    [
        {"quick_gelu": True},
        {"quick_gelu": False},
        {"vision": {"ls_init_value": 0.3}, "text": {"ls_init_value": 0.3}},
        {"vision": {"block_type": "custom"}, "text": {"block_type": "custom"}},
        {"vision": {"no_ln_pre": True, "layers": 1}, "text": {"proj_bias": True, "layers": 1}},
        {
            "vision": {"norm_kwargs": {"eps": 1e-3}, "patch_dropout": 0.5},
            "text": {"pool_type": "eos", "eos_id": 49407},
        },
    ],
)
def test_agrees_with_open_clip(model):
    pooling = {**model.get("vision", {}), "pool_type": "avg"}
    model = make_small_clip(**{**model, "vision": pooling})
    clip = freeze(model).double().train()
    images, ids = (
        torch.randn(2, 3, 48, 48, dtype=torch.float64),
        clip.tokenize(["a photo of a dog.", "cat"]),
    )
    tokens = clip.encode_images(images, None, attention_blocks=2)
    torch.testing.assert_close(clip.pool_images(tokens), model.encode_image(images))
    torch.testing.assert_close(clip.open_last_block(tokens).features, model.encode_image(images))
    ends = clip.find_ends(ids)
    cut = ids[:, : int(ends.max()) + 1]
    torch.testing.assert_close(
        clip.encode_prompts(clip.embed_text(cut), ends), model.encode_text(ids)
    )


def test_agrees_with_the_tiny_clip():
    model = tiny_clip()
    clip = FrozenClip(
        model, model.visual.image_mean, model.visual.image_std, open_clip_tokenizer("ViT-B-32")
    )
    side = model.visual.image_size[0]
    images, ids = (
        torch.randn(2, 3, side, side),
        clip.tokenize(["a photo of a red circle.", "a blue square"]),
    )
    tokens = clip.encode_images(images, None, attention_blocks=8)
    assert_close(
        clip.pool_images(tokens), model.encode_image(images, normalize=False), "image features"
    )
    assert_close(
        clip.encode_prompts(clip.embed_text(ids), clip.find_ends(ids)),
        model.encode_text(ids),
        "text features",
    )
    assert (clip.patch_size, clip.width, clip.embed_dim) == (8, 128, 128)


def test_everything_is_frozen_and_stays_in_evaluation_mode():
    clip = freeze(make_small_clip()).train()
    assert not clip.training
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_attention_blocks():
    clip, images = freeze(make_small_clip()), torch.randn(1, 3, 48, 64)
    assert clip.encode_images(images, None, 0).attention is None
    everything = clip.encode_images(images, None, 3)
    torch.testing.assert_close(clip.encode_images(images, None, 99).attention, everything.attention)
    torch.testing.assert_close(clip.encode_images(images, None, 0).inputs, everything.inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_stays_near(dtype):
    clip, images = freeze(make_small_clip()), torch.randn(2, 3, 48, 64)
    padding = torch.zeros(2, 48, 64, dtype=torch.bool)
    padding[0, :, 40:] = True
    ids = clip.tokenize(["a dog"])
    exact = clip.encode_images(images, padding, 2)
    with torch.autocast("cpu", dtype):
        tokens = clip.encode_images(images, padding, 2)
        features = [clip.pool_images(tokens), clip.open_last_block(tokens).features]
        text = clip.encode_prompts(clip.embed_text(ids), clip.find_ends(ids))
    for feature in features:
        assert feature.dtype == torch.float32
        torch.testing.assert_close(feature, clip.pool_images(exact), rtol=0.05, atol=0.05)
    torch.testing.assert_close(
        text, clip.encode_prompts(clip.embed_text(ids), clip.find_ends(ids)), rtol=0.05, atol=0.05
    )


def test_positions_are_resized_bilinearly():
    positions = torch.tensor([[0.0, 4.0]]).reshape(1, 2, 1)
    assert resize_positions(positions, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert resize_positions(positions, (1, 2)) is positions


def test_refuses_images_that_do_not_fit_the_patches():
    with pytest.raises(ValueError, match=r"48x50.*patch size 16.*AlignToPatch"):
        freeze(make_small_clip()).encode_images(torch.zeros(1, 3, 48, 50), None, 0)


def test_fixed_positions_refuse_another_grid():
    with pytest.raises(ValueError, match=r"grid is \(3, 4\), fixed positions need \(3, 3\)"):
        freeze(make_small_clip(), FixedPositionClip).encode_images(
            torch.zeros(1, 3, 48, 64), None, 0
        )


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"vision": {"attentional_pool": True, "attn_pooler_heads": 2}}, "attentional pool"),
        ({"vision": {"final_ln_after_pool": True}}, "final norm after pooling"),
        ({"vision": {"qk_norm": True}}, "plain blocks"),
        ({"vision": {"scale_fc": True}}, "plain blocks"),
        ({"text": {"scale_attn": True}}, "plain blocks"),
        ({"init_logit_bias": -10.0}, "SigLIP"),
        ({"text": {"no_causal_mask": True}}, "not causal"),
        ({"text": {"pool_type": "last"}}, "text pooling 'last'"),
        ({"vision": {"layers": (1, 1, 1, 1), "head_width": 64}}, "ModifiedResNet"),
    ],
)
def test_refuses_what_the_method_does_not_describe(model, found):
    with pytest.raises(ValueError, match=found):
        freeze(make_small_clip(**model))


def test_refuses_a_clip_without_class_token():
    model = make_small_clip()
    model.visual.class_embedding = None
    with pytest.raises(ValueError, match="no class token"):
        freeze(model)


def test_refuses_another_text_encoder():
    settings = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    model = CustomTextCLIP(16, settings, {"width": 32, "heads": 2, "layers": 1})
    with pytest.raises(ValueError, match="found CustomTextCLIP"):
        freeze(model)


def test_text_length_and_scale_are_read_from_the_model():
    clip = freeze(make_small_clip(nonscalar_logit_scale=True))
    assert clip.text_length == 77
    assert clip.logit_scale.shape == ()


def test_every_open_clip_name_of_the_recipes_has_a_tokenizer():
    start = time.perf_counter()
    for name in ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu"):
        assert open_clip.get_model_config(name) is not None
        assert open_clip_tokenizer(name)(["dog"]).shape == (1, 77)
    assert time.perf_counter() - start < 10


def test_attention_of_many_patches_is_computed_a_few_rows_at_a_time(monkeypatch):
    clip, images = freeze(make_small_clip()), torch.randn(2, 3, 48, 64)
    whole = clip.encode_images(images, None, attention_blocks=2)
    length = whole.inputs.shape[1]
    heads = clip.clip.visual.transformer.resblocks[0].attn.num_heads
    rows = []
    weigh = block_file.weigh_keys
    monkeypatch.setattr(block_file, "ATTENTION_BYTES", 3 * 2 * heads * length * 4)
    monkeypatch.setattr(
        block_file, "weigh_keys", lambda q, *a: rows.append(q.shape[2]) or weigh(q, *a)
    )
    parts = clip.encode_images(images, None, attention_blocks=2)
    assert max(rows) == 3
    assert sum(rows) == 2 * length
    torch.testing.assert_close(parts.attention, whole.attention)
    torch.testing.assert_close(parts.inputs, whole.inputs)
