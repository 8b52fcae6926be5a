"""The segmentation network learns from seeds and predicts at the images' own sizes."""

from __future__ import annotations

import pytest
import torch
from front_door import compose_config
from hydra.utils import instantiate
from network_tools import CARRIED, build_module

from benchmarks.measure import read_peak, reset_peak
from fmawsss.records import Batch


def build():
    return build_module(["circle", "square"])


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    module = build()
    images, seeds = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8)
    seeds[:, 10:40, 10:40] = 1
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = module.loss(module.network(images), module.targets(seeds, None))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_ignored_pixels_take_no_part():
    module = build()
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    seeds = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    seeds[0, 0, 0] = 1
    module.loss(logits, module.targets(seeds, None)).backward()
    assert logits.grad[0, :, 0, 0].abs().sum() > 0
    assert logits.grad[0, :, 1:].abs().sum() == 0


def test_masks_come_at_the_images_own_sizes():
    module = build().eval()
    with torch.no_grad():
        predictions = module.predict_step(
            Batch(["a", "b"], torch.randn(2, 3, 64, 56), [(70, 51), (33, 90)])
        )
    assert [p.mask.shape for p in predictions] == [(70, 51), (33, 90)]
    assert all(p.mask.max() <= 2 and p.confidence.max() <= 1 for p in predictions)


@pytest.mark.parametrize("size", [(112, 112), (64, 160)])
def test_the_tower_sees_what_open_clip_sees(size):
    from fmawsss.tiny.models import tiny_clip

    network, clip = build().network.eval(), tiny_clip()
    with torch.no_grad():
        features = network._embed_patches(torch.zeros(1, 3, *size))
    assert features.shape[-2:] == (size[0] // 8, size[1] // 8)
    if size == (112, 112):
        image = torch.randn(1, 3, 112, 112)
        with torch.no_grad():
            pooled = network._embed_patches(image).mean(dim=(2, 3)) @ clip.visual.proj
            assert torch.allclose(pooled, clip.encode_image(image), atol=1e-4)


def test_the_attention_of_all_patches_to_all_is_never_held():
    network, cpu = build().network.eval(), torch.device("cpu")
    images = torch.randn(1, 3, 512, 512)  # 4096 patches: 268 MB for the weights of four heads
    with torch.inference_mode():
        network(images[..., :64, :64])
        before = reset_peak(cpu)
        network(images)
    assert read_peak(cpu) - before < 220e6


def test_photos_are_seen_no_larger_than_memory_allows():
    cfg = compose_config("infer", "task=network", "dataset=folder")
    resize = instantiate(cfg.stage.prediction.view.resize)
    assert resize.find_size((3000, 4000)) == (768, 1024)
    assert resize.find_size((100_000, 10)) == (1024, 16)
    assert resize.find_size((112, 110)) == (112, 112)
    assert resize(torch.zeros(300, 2000, 3, dtype=torch.uint8).numpy()).shape == (160, 1024, 3)


def test_a_checkpoint_says_what_its_masks_mean():
    checkpoint = {}
    build().on_save_checkpoint(checkpoint)
    assert (checkpoint["version"], checkpoint["classes"]) == (2, ["circle", "square"])
    assert (checkpoint["carried"], checkpoint["config"]) == (CARRIED, {"seed": 1})
