"""Mask2Former: what it answers, its backbone's weights, and which of its parameters are decayed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_tools import DECODER, build_module, build_small

from fmawsss.networks.mask2former import combine_queries, load_swin
from fmawsss.networks.parameter_groups import split_parameters

UNDECAYED = ["relative_position_bias_table", "level_embed"]


def test_it_answers_queries_in_training_and_scores_else():
    network = build_small(classes=4)
    queries = network(torch.randn(2, 3, 64, 96))
    assert len(queries.masks) == len(queries.classes) == DECODER["decoder_layers"]
    assert queries.masks[-1].shape == (2, 6, 16, 24)
    assert queries.classes[0].shape == (2, 6, 5)
    scores = network.eval()(torch.randn(2, 3, 70, 90))
    assert scores.shape == (2, 4, 70, 90)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(2, 70, 90))


def test_every_output_is_trained():
    network = build_small()
    queries = network(torch.randn(1, 3, 64, 64))
    sum(answers.sum() for answers in queries.classes).backward()
    assert network.model.model.transformer_module.queries_features.weight.grad.abs().sum() > 0


def test_scores_are_made_at_the_size_of_the_image():
    classes, masks = torch.randn(1, 5, 4), torch.randn(1, 5, 3, 4)
    resized = F.interpolate(masks, size=(20, 30), mode="bilinear", align_corners=False)
    expected = torch.zeros(1, 3, 20, 30)
    for query in range(5):
        for label in range(3):
            expected[0, label] += classes[0, query].softmax(0)[label] * resized[0, query].sigmoid()
    shares = combine_queries(classes, masks, (20, 30)).softmax(1)
    torch.testing.assert_close(shares, expected / expected.sum(1, keepdim=True))


def test_the_backbone_takes_the_weights_of_a_classifier(tmp_path):
    from transformers import SwinForImageClassification

    network = build_small()
    classifier = SwinForImageClassification(network.encoder.config)
    classifier.save_pretrained(tmp_path)
    load_swin(network, "nowhere/swin", str(tmp_path))
    given = {name: value for name, value in classifier.state_dict().items() if "layers.2" in name}
    taken = network.encoder.state_dict()
    assert given
    assert all(torch.equal(taken[name], value) for name, value in given.items())

    other = SwinForImageClassification(
        build_small().encoder.config.__class__(embed_dim=4, depths=[1], num_heads=[1])
    )
    other.save_pretrained(tmp_path / "other")
    with pytest.raises((ValueError, RuntimeError), match=r"another Swin|mismatch"):
        load_swin(network, "nowhere/swin", str(tmp_path / "other"))


def test_missing_weights_name_address_and_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/model\.safetensors.*microsoft/swin"):
        load_swin(build_small(), "microsoft/swin", str(tmp_path))


def test_parameter_groups_are_those_of_the_recipe():
    network = build_small()
    groups = split_parameters(
        network, lr=1e-4, weight_decay=0.05, encoder_factor=0.1, undecayed=UNDECAYED
    )
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    assert (
        len(found)
        == len(list(network.parameters()))
        == sum(len(group["params"]) for group in groups)
    )
    for name, parameter in network.named_parameters():
        rate = 1e-5 if "pixel_level_module.encoder" in name else 1e-4
        free = any(
            word in name.lower()
            for word in ("norm", "relative_position_bias_table", "level_embed", "queries_")
        )
        free |= any(
            f"input_projections.{i}.1" in name for i in range(3)
        )  # group norms without a name
        free |= any(word in name for word in ("adapter_1.1", "layer_1.1"))
        assert found[id(parameter)] == (pytest.approx(rate), 0.0 if free else 0.05), name


def test_the_config_builds_what_the_recipe_says():
    swin = {"embed_dim": "8", "num_heads": "[1,1,1,1]", "depths": "[1,1,1,1]"}
    changes = [f"network.build.swin.{key}={value}" for key, value in swin.items()]
    classes = [f"class {index}" for index in range(20)]
    module = build_module(classes, "dataset=voc", "network.weights=null", *changes)
    model = module.network.model
    assert (
        model.config.num_queries
        == model.model.transformer_module.queries_features.num_embeddings
        == 50
    )
    assert model.class_predictor.out_features == 22
    assert len(module.network(torch.randn(1, 3, 96, 96)).masks) == 10
    optimizer = module.configure_optimizers()["optimizer"]
    rates = {(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {(1e-4, 0.05), (1e-4, 0.0), (1e-5, 0.05), (1e-5, 0.0)}
