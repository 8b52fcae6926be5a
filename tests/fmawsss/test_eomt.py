"""EoMT: what it answers, what it learns, and the weights of DINOv3 that it takes."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from fmawsss.files.downloads import plan_downloads
from fmawsss.networks.eomt import EomtNetwork, load_dinov3
from fmawsss.networks.mask_set_loss import MaskSetLoss
from fmawsss.networks.targets import PixelTargets
from stages.step_memory import estimate_step

VIT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64,
    "patch_size": 16,
}  # fmt: skip
SMALL = VIT | {"num_blocks": 2, "num_queries": 6}
REPOSITORY = "facebook/dinov3-vitb16-pretrain-lvd1689m"


def build_small(classes=4, **changes):
    torch.manual_seed(0)
    return EomtNetwork(SMALL | changes, classes)


def test_it_answers_queries_in_training_and_scores_else():
    network = build_small()
    queries = network(torch.randn(2, 3, 64, 96))
    assert len(queries.masks) == len(queries.classes) == 3  # before each of two blocks, and after
    assert {tuple(masks.shape) for masks in queries.masks} == {(2, 6, 16, 24)}
    assert queries.classes[0].shape == (2, 6, 5)
    scores = network.eval()(torch.randn(2, 3, 70, 90))
    assert scores.shape == (2, 4, 70, 90)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(2, 70, 90))
    assert not network.model.predictions


def test_what_it_answers_applied_is_its_last_answer_in_training():
    network = build_small(pos_embed_rescale=None)  # which changes places at random in training
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        queries = network(images)
        applied = network.eval()(images)
    shares = torch.einsum(
        "bqr,bqhw->brhw",
        queries.classes[-1].softmax(-1)[..., :-1],
        torch.nn.functional.interpolate(queries.masks[-1], (64, 64), mode="bilinear").sigmoid(),
    )
    expected = shares / shares.sum(1, keepdim=True)
    torch.testing.assert_close(applied.exp(), expected, rtol=0, atol=1e-4)


def test_a_pass_without_content_leaves_nothing_behind():
    network, images = build_small().eval(), torch.randn(1, 3, 48, 80)
    expected = build_small().eval()(images)
    with suppress(Exception):  # it asks a tensor for its number, and is measured instead
        estimate_step(build_small(), (1, 3, 48, 80), torch.device("cpu"), mixed=False)
    torch.testing.assert_close(network(images), expected)


def test_the_mask_set_loss_reaches_every_part():
    network = build_small(num_hidden_layers=3)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 20:40, 20:40] = 2
    loss = MaskSetLoss(2.0, 5.0, 5.0, 0.1, points=64, oversample=3, importance=0.75)
    value = loss(network(torch.randn(2, 3, 64, 64)), PixelTargets(labels, None))
    value.backward()
    assert value > 0
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert not [name for name in silent if "mask_token" not in name]


def test_the_vit_takes_the_weights_of_dinov3(tmp_path):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    network = build_small()
    vit = DINOv3ViTModel(DINOv3ViTConfig(**VIT, num_register_tokens=4))
    vit.save_pretrained(tmp_path)
    load_dinov3(network, REPOSITORY, str(tmp_path))
    taken = network.encoder.state_dict()
    given = {name.removeprefix("model."): value for name, value in vit.state_dict().items()}
    assert torch.equal(taken["layernorm.weight"], given["norm.weight"])
    name = "3.attention.o_proj.weight"
    assert torch.equal(taken[f"layers.{name}"], given[f"layer.{name}"])

    # another DINOv3, a broken file
    path = tmp_path / "model.safetensors"
    with pytest.raises(
        ValueError, match=r"model\.safetensors holds no whole weights of the DINOv3"
    ):
        load_dinov3(build_small(num_hidden_layers=5), REPOSITORY, str(tmp_path))
    state = load_file(path)
    state["norm.weight"] = state["norm.weight"][:5].clone()
    save_file(state, path)
    with pytest.raises(ValueError, match="size mismatch"):
        load_dinov3(network, REPOSITORY, str(tmp_path))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="delete it to fetch it again"):
        load_dinov3(network, REPOSITORY, str(tmp_path))


def test_missing_weights_name_address_place_and_licence(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("fmawsss.files.downloads.urlopen", refuse)
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/model\.safetensors.*licence.*{REPOSITORY}"
    ):
        load_dinov3(build_small(), REPOSITORY, str(tmp_path))
    with plan_downloads() as files:
        load_dinov3(build_small(), REPOSITORY, str(tmp_path))
    assert files[0].size > 0


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"network\.build\.eomt has unknown depth"):
        EomtNetwork({"depth": 3}, 4)
