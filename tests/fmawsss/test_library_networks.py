"""Networks of segmentation_models_pytorch with their encoders' weights, all random and on disk."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from network_tools import compose_network
from safetensors.torch import save_file

from fmawsss.networks.library import (
    build_on_smp_encoder,
    build_on_timm_encoder,
    load_smp_encoder,
    load_timm_encoder,
)
from fmawsss.networks.mask2former import Mask2FormerNetwork


@pytest.mark.parametrize(
    ("network", "encoder"),
    [
        ("deeplabv3plus_r101", "resnet18"),
        ("segformer_b5", "mit_b0"),
        ("timm", "mobilenetv3_small_050"),
        ("timm", "convnext_atto"),
    ],
)
def test_networks_answer_logits_at_the_size_of_the_images(network, encoder):
    built = compose_network(network, f"encoder={encoder}")(classes=5).eval()
    with torch.no_grad():
        for size in ((64, 96), (33, 47), (8, 100)):
            assert built(torch.randn(1, 3, *size)).shape == (1, 5, *size)
        images = torch.randn(1, 3, 64, 96)
        assert torch.equal(built(images), built.network(images))  # what fits is not touched
    assert list(built.encoder.parameters())


@pytest.mark.parametrize(
    ("network", "encoder", "parameters"),
    [("deeplabv3plus_r101", "resnet101", 45e6), ("segformer_b5", "mit_b5", 84e6)],
)
def test_the_networks_are_the_large_ones(network, encoder, parameters):
    build = compose_network(network)
    assert build.keywords["encoder"] == encoder
    built = build(classes=21)
    assert sum(p.numel() for p in built.parameters()) == pytest.approx(parameters, rel=0.05)


def test_an_encoder_of_the_library_takes_its_weights(tmp_path):
    given = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    (tmp_path / "resnet18.imagenet").mkdir()
    save_file(given, tmp_path / "resnet18.imagenet" / "model.safetensors")
    network = build_on_smp_encoder(smp.Unet, "resnet18", classes=3)
    load_smp_encoder(network, "resnet18", str(tmp_path))
    taken = network.encoder.state_dict()
    assert all(torch.equal(taken[name], value) for name, value in given.items())


def test_a_timm_encoder_takes_its_weights(tmp_path):
    given = timm.create_model("convnext_atto").state_dict()
    (tmp_path / "convnext_atto.d2_in1k").mkdir()
    save_file(given, tmp_path / "convnext_atto.d2_in1k" / "model.safetensors")
    network = build_on_timm_encoder(smp.FPN, "convnext_atto.d2_in1k", {}, classes=3)
    load_timm_encoder(network, "convnext_atto.d2_in1k", {}, str(tmp_path))
    taken = network.encoder.model.state_dict()["stages_1.blocks.0.conv_dw.weight"]
    assert torch.equal(taken, given["stages.1.blocks.0.conv_dw.weight"])


def test_missing_weights_name_address_and_place(tmp_path):
    network = build_on_smp_encoder(smp.Unet, "resnet18", classes=3)
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/resnet18\.imagenet/.*smp-hub/resnet18\.imagenet"
    ):
        load_smp_encoder(network, "resnet18", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/resnet18\.a1_in1k/.*timm/resnet18\.a1_in1k"
    ):
        load_timm_encoder(network, "resnet18.a1_in1k", {}, str(tmp_path))
    with pytest.raises(ValueError, match=r"no weights called 'resnet18\.mine', but resnet18\."):
        load_timm_encoder(network, "resnet18.mine", {}, str(tmp_path))


def test_an_encoder_without_a_pyramid_is_refused():
    with pytest.raises(
        ValueError, match=r"'vit_tiny_patch16_224' has no feature maps at strides 4.*convnext_tiny"
    ):
        build_on_timm_encoder(smp.FPN, "vit_tiny_patch16_224", {}, classes=3)


def test_torchvision_answers_logits_at_the_size_of_the_images():
    small = "network._target_=torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    built = compose_network("torchvision", small)(classes=5).eval()
    with torch.no_grad():
        for size in ((64, 96), (33, 47), (8, 100)):
            assert built(torch.randn(1, 3, *size)).shape == (1, 5, *size)


def test_a_network_of_the_users_own_needs_a_name_alone():
    built = compose_network("own", "_target_=network_tools.build_small")(classes=5)
    assert isinstance(built, Mask2FormerNetwork)
