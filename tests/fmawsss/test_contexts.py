from __future__ import annotations

import doctest

import pytest
import torch
from golden_clip import freeze, make_small_clip

from fmawsss import contexts
from fmawsss.contexts import (
    ContextsFromWords,
    NormalContexts,
    ReleasedContexts,
    TiledContexts,
    named_seed,
)
from fmawsss.files.released_contexts import load_released_context


@pytest.fixture(scope="module")
def clip():
    return freeze(make_small_clip())


def test_examples():
    assert doctest.testmod(contexts).failed == 0


def test_named_seeds_are_those_of_the_released_runs():
    assert [named_seed(name) for name in "真机"] == [2763632353, 3631188958]


@pytest.mark.parametrize("build", [NormalContexts, TiledContexts])
def test_contexts_without_a_vector_are_refused(build):
    noise = {"std": 0.5} if build is NormalContexts else {"phrase": "a photo", "noise": 0.1}
    with pytest.raises(ValueError, match=r"prompts\.contexts\.length=0.*prompts=handwritten"):
        build(length=0, generator_seed=0, **noise)


def test_normal_contexts_follow_torchs_generator(clip):
    torch.manual_seed(3)
    expected = torch.empty(2, 16, 32).normal_(std=0.5)
    before = torch.get_rng_state()
    drawn = NormalContexts(length=16, std=0.5, generator_seed=3)(clip, 2)
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_contexts_from_words(clip):
    words = ContextsFromWords("a_photo of a")(clip, 3)
    ids = clip.tokenize(["a photo of a"])[:, 1:5]
    assert torch.equal(words, clip.embed_text(ids).expand(3, 4, 32))
    with pytest.raises(ValueError, match="no words"):
        ContextsFromWords(" ")(clip, 1)


def test_tiled_contexts_repeat_the_phrase(clip):
    words = ContextsFromWords("a clean origami")(clip, 1)[0]
    exact = TiledContexts("a clean origami", length=7, noise=0.0, generator_seed=0)(clip, 2)
    assert torch.equal(exact[0], torch.cat([words, words, words[:1]]))
    noisy = TiledContexts("a clean origami", length=7, noise=0.1, generator_seed=0)(clip, 2)
    assert 0.05 < (noisy - exact).std() < 0.2
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "step": 3}])
def test_released_contexts(clip, tmp_path, wrap):
    context = torch.randn(16, 32)
    torch.save(wrap({"prompt_learner.ctx": context}), tmp_path / "checkpoint.pth")
    assert torch.equal(load_released_context(tmp_path / "checkpoint.pth"), context[None])
    assert torch.equal(ReleasedContexts(str(tmp_path / "checkpoint.pth"))(clip, 1), context[None])
    with pytest.raises(ValueError, match=r"holds 1 contexts of width 32, the prompts need 5"):
        ReleasedContexts(str(tmp_path / "checkpoint.pth"))(clip, 5)


def test_released_contexts_name_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_released_context(tmp_path / "absent.pth")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"holds 0 tensors named prompt_learner.ctx"):
        load_released_context(tmp_path / "other.pth")
