"""Encoders beside CLIP: DINO of timm with random weights, and the tiny SAM in its part."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from fmawsss.dino.encoder import DinoEncoder, open_attention, resize_image
from fmawsss.dino.tiny import place_cells, tiny_encoder
from fmawsss.dino.weights import build_vit, load_dino
from fmawsss.files.downloads import plan_downloads

NAMES = {"v2": "vit_small_patch14_dinov2.lvd142m", "v3": "vit_small_patch16_dinov3.lvd1689m"}
PYRAMIDS = ["convnext_tiny.dinov3_lvd1689m", "swin_tiny_patch4_window7_224.ms_in1k"]
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 3}


def draw_images(count=2, size=(40, 60)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
        for _ in range(count)
    ]


def small_dino(version, **changes):
    """Build a narrow DINO of timm's own class."""
    sizes = SMALL | changes
    vit = timm.create_model(NAMES[version], num_classes=0, dynamic_img_size=True, **sizes)
    return DinoEncoder(vit, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("version", NAMES)
def test_features_are_those_of_the_library(version):
    dino, images, grid = small_dino(version), draw_images(), (3, 5)
    seen = dino.encode(images, grid, attention_blocks=0)
    assert seen.attention is None
    patch = dino.vit.patch_embed.patch_size[0]
    for image, found in zip(images, seen.features, strict=True):
        pixels = resize_image(image, (grid[0] * patch, grid[1] * patch)) / 255
        tokens = dino.vit.forward_features(((pixels - dino.mean) / dino.std)[None])[0]
        torch.testing.assert_close(found, tokens[dino.vit.num_prefix_tokens :])


@pytest.mark.parametrize("version", NAMES)
def test_attention_is_the_one_that_moves_values(version):
    """What is recorded of one head, times its values, is what fused attention makes."""
    dino = small_dino(version, num_heads=1, embed_dim=16)
    attention = dino.vit.blocks[-1].attn
    mixed, projected = [], []
    hooks = [
        attention.proj.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0])),
        attention.qkv.register_forward_hook(lambda module, inputs, out: projected.append(out)),
    ]
    pixels = torch.randn(1, 3, 112, 112)  # whole patches of 14 and of 16
    with torch.no_grad():
        attention.fused_attn = True
        dino.vit.forward_features(pixels)
        with open_attention([dino.vit.blocks[-1]]) as weights:
            dino.vit.forward_features(pixels)
    for hook in hooks:
        hook.remove()
    assert attention.fused_attn
    values = projected[0][:, :, 32:]
    torch.testing.assert_close(weights[0] @ values, mixed[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], mixed[0], rtol=1e-4, atol=1e-5)


def test_attention_leaves_out_what_is_no_patch():
    dino = small_dino("v3")
    seen = dino.encode(draw_images(1), (2, 4), 2)
    assert dino.vit.num_prefix_tokens == 5
    assert seen.attention.shape == (1, 8, 8)
    assert (seen.attention.sum(dim=2) < 1).all()


@pytest.mark.parametrize("version", NAMES)
def test_blocks_of_images_change_nothing(version, monkeypatch):
    dino, images = small_dino(version), draw_images(3)
    whole = dino.encode(images, (3, 5), 2)
    monkeypatch.setattr("fmawsss.scenes.BLOCK", 1)
    apart = dino.encode(images, (3, 5), 2)
    torch.testing.assert_close(apart.features, whole.features)
    torch.testing.assert_close(apart.attention, whole.attention)
    assert not dino.train().training


def test_the_tiny_encoder_is_the_tiny_sams():
    encoder = tiny_encoder()
    (image,) = draw_images(1, (112, 112))
    own = encoder.encoder
    side = own.img_size // own.patch_embed.proj.kernel_size[0]
    seen = encoder.encode([image], (side, side), 1)
    pixels = (image.permute(2, 0, 1).float() - encoder.mean) / encoder.std
    expected = own(pixels[None])[0].flatten(1).T
    torch.testing.assert_close(seen.features[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen.attention.sum(dim=2), torch.ones(1, side * side))

    # another grid, a wide image
    wide = encoder.encode(draw_images(2, (40, 60)), (5, 7), 1)
    assert wide.features.shape == (2, 35, expected.shape[1])
    torch.testing.assert_close(wide.attention.sum(dim=2), torch.ones(2, 35))


def test_cells_are_read_at_their_centres():
    # four cells over a map of 4 x 4, of which the left half is the image
    found = place_cells((2, 2), (4, 4), (1.0, 0.5)).view(4, 4, 4)
    assert torch.equal(found.sum((1, 2)), torch.ones(4))
    assert found[0, 0, 0] == found[0, 1, 0] == 0.5
    assert found[3, 2, 1] == found[3, 3, 1] == 0.5


@pytest.mark.parametrize(
    "name", ["convnext_tiny.dinov3_lvd1689m", "swin_tiny_patch4_window7_224.ms_in1k"]
)
def test_a_network_without_one_grid_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="plain vision transformer"):
        load_dino(name, str(tmp_path))


def test_an_unknown_name_is_refused_with_others_near_it(tmp_path):
    with pytest.raises(ValueError, match=r"vit_small_patch14_dinov2\.lvd142m.*dino\.name"):
        load_dino("vit_small_patch14_dinov2", str(tmp_path))


def test_weights_are_found_or_asked_for_by_address(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("fmawsss.files.downloads.urlopen", refuse)
    with pytest.raises(FileNotFoundError, match=r"huggingface\.co/timm/vit_small_patch14") as found:
        load_dino(NAMES["v2"], str(tmp_path))
    assert "licence" not in str(found.value)
    with pytest.raises(FileNotFoundError, match=r"licence at https://huggingface\.co/timm/vit_sm"):
        load_dino(NAMES["v3"], str(tmp_path))
    with plan_downloads() as files:
        load_dino(NAMES["v3"], str(tmp_path))
    assert files[0].size == sum(p.nbytes for p in build_vit(NAMES["v3"]).state_dict().values())


@pytest.mark.parametrize("version", NAMES)
def test_weights_of_the_folder_are_taken_and_wrong_ones_refused(version, tmp_path):
    name = NAMES[version]
    path = tmp_path / name / "model.safetensors"
    path.parent.mkdir()
    source = build_vit(name)
    state = {key: value.clone() + 0.01 for key, value in source.state_dict().items()}
    save_file(state, path)
    loaded = load_dino(name, str(tmp_path)).vit.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())

    # cut, of another model, not finite
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name}/model.safetensors holds no whole weights"):
        load_dino(name, str(tmp_path))
    save_file({"cls_token": torch.zeros(1, 1, 7)}, path)
    with pytest.raises(ValueError, match="choose the model that they belong to"):
        load_dino(name, str(tmp_path))
    state["blocks.0.norm1.weight"][0] = float("nan")
    save_file(state, path)
    with pytest.raises(ValueError, match="no numbers"):
        load_dino(name, str(tmp_path))
