from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden_clip import DTYPES, PLACES, SHARES, freeze, make_golden_clip, make_small_clip
from golden_tools import assert_close, load_case

from fmawsss.clip.packing import Packing
from fmawsss.contexts import ContextsFromWords, NormalContexts
from fmawsss.prompts import (
    GroupedContexts,
    HandwrittenPrompts,
    LearnedForeground,
    LearnedPrompts,
    SynonymPrompts,
    context_per_class,
    lay_out_prompts,
    name_at_end,
    name_at_front,
    name_in_middle,
    share_contexts,
    tokenize_prompts,
)

CASES = [
    *(f"A_csc{share}_{place}_n16" for share in "FTL" for place in ("end", "middle", "front")),
    "A_cscF_end_ctxinit",
    "A_cscF_front_ctxinit",
]
NAMES, BACKGROUND = ["cat", "tv monitor", "person with clothes,people,human"], ["sky", "", "sea"]


@pytest.fixture(scope="module")
def clip():
    return freeze(make_small_clip()).double()


def make_prompts(clip, place=name_at_end, share=share_contexts, length=6):
    start = NormalContexts(length=length, std=0.1, generator_seed=1)
    return LearnedPrompts(clip, NAMES, BACKGROUND, start, place, share).double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_prompts_match_golden_vectors(case, dtype):
    arrays, meta = load_case(f"case2_prompt/{case}")
    clip = make_golden_clip(dtype)
    share = GroupedContexts(meta["csc"]) if isinstance(meta["csc"], list) else SHARES[meta["csc"]]
    context = torch.from_numpy(arrays["ctx"])
    words = meta["ctx_init"]
    start = ContextsFromWords(words) if words else NormalContexts(meta["n_ctx"], meta["ctx_std"], 0)
    prompts = LearnedPrompts(
        clip,
        meta["classnames"][:4],
        meta["classnames"][4:],
        start,
        PLACES[meta["cls_token_pos"]],
        share,
    )
    if words:
        assert torch.equal(prompts.context[0], context.to(dtype))
    prompts.context.data = context.reshape(prompts.context.shape)
    prompts = prompts.to(dtype)

    assert_close(prompts.eos, arrays["eot_idx"], "where prompts end")
    assert torch.equal(prompts.embed().float(), torch.from_numpy(arrays["prompts"]))
    assert_close(prompts(), arrays["text_features_f64"], f"case2_prompt/{case}:text_features")
    assert_close(
        clip.encode_prompts(prompts.embed(), prompts.eos),
        arrays["text_features_f64"],
        f"case2_prompt/{case}:text_features",
    )


def test_contexts_from_words_may_differ_by_class():
    # the released code fails here: A_cscT_end_ctxinit
    clip = make_golden_clip(torch.float32)
    prompts = LearnedPrompts(
        clip,
        ["cat", "dog"],
        [],
        ContextsFromWords("a clean origami"),
        name_at_end,
        context_per_class,
    )
    assert prompts.context.shape == (2, 3, 64)
    torch.testing.assert_close(
        prompts()[0], clip_text(clip, "a clean origami cat."), rtol=1e-4, atol=1e-5
    )


def clip_text(clip, text):
    ids = clip.tokenize([text])
    return clip.encode_prompts(clip.embed_text(ids), clip.find_ends(ids))[0]


@pytest.mark.parametrize("case", ["tokens_voc", "tokens_voc_emptybg"])
def test_token_ids_of_voc_match_golden_vectors(case, clip):
    arrays, meta = load_case(f"case2_prompt/{case}")
    ids, eos, vectors = lay_out_prompts(clip, meta["classnames"], length=16, before=16)
    assert ids.tolist() == arrays["tokenized"][:, : ids.shape[1]].tolist()
    assert not arrays["tokenized"][:, ids.shape[1] :].any()
    assert (eos - 18).tolist() == arrays["name_lens"].tolist()
    assert vectors[:, 1:17].eq(torch.arange(16)).all()
    assert (vectors >= 0).sum(dim=1).eq(16).all()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (name_at_end, "S 0 1 2 tv monitor . E"),
        (name_in_middle, "S 0 tv monitor 1 2 . E"),
        (name_at_front, "S tv monitor 0 1 2 . E"),
    ],
)
def test_layouts(clip, place, expected):
    ids, eos, vectors = lay_out_prompts(clip, ["tv_monitor"], length=3, before=place(3))
    words = dict(
        zip(
            clip.tokenize(["tv monitor."])[0, :5].tolist(),
            ["S", "tv", "monitor", ".", "E"],
            strict=True,
        )
    )
    row = [
        words[token] if vector < 0 else str(vector)
        for token, vector in zip(ids[0].tolist(), vectors[0].tolist(), strict=True)
    ]
    assert " ".join(row) == expected
    assert eos.tolist() == [len(row) - 1]


@pytest.mark.parametrize("place", [name_at_end, name_in_middle, name_at_front])
@pytest.mark.parametrize(
    "share", [share_contexts, context_per_class, GroupedContexts([0, 1, 0, 2, 2, 1])]
)
def test_prompts_equal_the_plain_formulation(clip, place, share):
    prompts = make_prompts(clip, place, share)
    before = place(6)
    for row, name in enumerate(NAMES + BACKGROUND):
        ids = clip.tokenize([name])[0]
        name_ids = ids[1 : ids.argmax()]
        words = clip.embed_text(torch.cat([ids[:1], name_ids, clip.tokenize(["."])[0, 1:3]])[None])[
            0
        ]
        context = prompts.context[share(6)[row]]
        size = len(name_ids)
        plain = torch.cat(
            [words[:1], context[:before], words[1 : 1 + size], context[before:], words[1 + size :]]
        )
        feature = clip.encode_prompts(plain[None], torch.tensor([len(plain) - 1]))[0]
        torch.testing.assert_close(prompts()[row], feature)


@pytest.mark.parametrize("place", [name_at_end, name_in_middle])
def test_packing_changes_neither_features_nor_gradients(clip, place):
    prompts = make_prompts(clip, place)
    assert prompts.packing is not None
    weights = torch.randn(6, 24, dtype=torch.float64)
    (packed,) = torch.autograd.grad((prompts() * weights).sum(), prompts.context)
    dense = clip.encode_prompts(prompts.embed(), prompts.eos)
    torch.testing.assert_close(prompts(), dense)
    (plain,) = torch.autograd.grad((dense * weights).sum(), prompts.context)
    torch.testing.assert_close(packed, plain)


def test_packing_by_hand():
    packing = Packing(torch.tensor([3, 2]), length=5, shared=2)
    assert packing.tokens.tolist() == [0, 1, 2, 3, 7]
    assert packing.positions.tolist() == [0, 1, 2, 3, 2]
    assert packing.ends.tolist() == [3, 4]
    assert packing.visible.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert not packing.state_dict()


@pytest.mark.parametrize("share", [share_contexts, context_per_class])
def test_only_the_context_is_learned_and_saved(clip, share):
    prompts = make_prompts(clip, share=share)
    assert [name for name, _ in prompts.named_parameters()] == ["context"]
    assert list(prompts.state_dict()) == ["context"]
    assert prompts.learns
    prompts().square().sum().backward()
    assert prompts.context.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_learned_foreground_keeps_the_background_fixed(clip):
    start = NormalContexts(length=4, std=0.1, generator_seed=1)
    templates = ["a photo of {}.", "{}"]
    prompts = LearnedForeground(
        clip, NAMES, BACKGROUND, start, name_at_end, context_per_class, templates
    )
    assert prompts.context.shape[0] == len(NAMES)
    assert list(prompts.state_dict()) == ["context"]
    learned = LearnedPrompts(clip, NAMES, [], start, name_at_end, context_per_class)
    expected = torch.cat([learned(), HandwrittenPrompts(clip, BACKGROUND, [], templates)()])
    torch.testing.assert_close(prompts(), expected)


def test_handwritten_prompts_average_normalised_templates(clip):
    templates = ["a photo of a {}.", "a clean origami {}."]
    prompts = HandwrittenPrompts(clip, ["cat", "tv_monitor"], ["sky"], templates)
    assert not prompts.learns
    assert not list(prompts.parameters())
    assert not prompts.state_dict()
    for row, name in enumerate(["cat", "tv monitor", "sky"]):
        features = [
            F.normalize(clip_text(clip, template.format(name)), dim=0) for template in templates
        ]
        torch.testing.assert_close(
            F.normalize(prompts()[row], dim=0), F.normalize(sum(features), dim=0)
        )


def test_commas_are_one_prompt_unless_they_are_read_as_synonyms(clip):
    name = "person with clothes,people,human"
    whole = HandwrittenPrompts(clip, [name], [], ["a {}."])()
    torch.testing.assert_close(whole[0], F.normalize(clip_text(clip, f"a {name}."), dim=0))
    fused = SynonymPrompts(clip, [name], ["sky"], ["a {}."])()
    parts = sum(F.normalize(clip_text(clip, f"a {part}."), dim=0) for part in name.split(","))
    torch.testing.assert_close(F.normalize(fused[0], dim=0), F.normalize(parts, dim=0))
    torch.testing.assert_close(fused[1], F.normalize(clip_text(clip, "a sky."), dim=0))


def test_prompts_that_do_not_fit_are_refused(clip):
    tokenize_prompts(clip, ["cat " * 74])
    with pytest.raises(ValueError, match="shorten the name or the context"):
        tokenize_prompts(clip, ["cat " * 75])
    with pytest.raises(ValueError, match="shorten the name or the context"):
        make_prompts(clip, length=74)


def test_wrong_groups_and_templates_are_refused(clip):
    with pytest.raises(ValueError, match="2 groups for 6 prompts"):
        make_prompts(clip, share=GroupedContexts([0, 1]))
    with pytest.raises(ValueError, match="every template needs"):
        HandwrittenPrompts(clip, NAMES, [], ["a photo"])


@pytest.mark.parametrize("place", [name_at_end, name_in_middle, name_at_front])
def test_frozen_beginnings_change_no_gradient(clip, place):
    prompts = make_prompts(clip, place, context_per_class)
    target = torch.randn(len(NAMES) + len(BACKGROUND), clip.embed_dim, dtype=torch.float64)
    gradients = []
    for features in (prompts(), clip.encode_prompts(prompts.embed(), prompts.eos)):
        gradients += torch.autograd.grad((features * target).sum(), prompts.context)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_behind_a_name_in_front_only_context_and_end_are_encoded(clip):
    prompts = make_prompts(clip, name_at_front, context_per_class)
    assert (
        prompts.prefixes.cut(prompts.embed()).shape[1] == 6 + 2
    )  # the vectors, the full stop, EOS
