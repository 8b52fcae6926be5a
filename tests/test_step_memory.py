"""A network that needs more memory than there is says so before it trains."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from front_door import run
from test_network_training import SMALL, VIEWS
from torch import nn

import train
from fmawsss.networks.targets import trust_seeds
from fmawsss.networks.towers import TowerNetwork
from fmawsss.tiny.models import tiny_clip
from stages import step_memory
from stages.step_memory import GB, estimate_step, measure_step, read_available, read_limit

ODD = """
from torch import nn

class Odd(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 1)

    def forward(self, images):
        assert images.abs().max().item() > 0, "blank"
        return self.layer(images)
"""
CPU = torch.device("cpu")


def test_a_known_network_is_counted_by_hand():
    # weights 4 x (3 * 8 + 8), saved: the images for the weight, and the product for the square
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 1)

        def forward(self, images):
            return self.layer(images).square()

    images, product = 2 * 3 * 16 * 16 * 4, 2 * 8 * 16 * 16 * 4
    expected = 4 * (3 * 8 + 8) * 4 + images + product + 2 * product
    assert estimate_step(Square(), (2, 3, 16, 16), CPU, mixed=False) == expected


def test_attention_on_small_patches_grows_with_the_fourth_power_of_the_side():
    network = TowerNetwork(tiny_clip(), 21, 48).train()
    sides = [estimate_step(network, (8, 3, side, side), CPU, mixed=False) for side in (256, 512)]
    assert sides[1] > 10 * sides[0]
    assert 12 * GB < sides[1] < 18 * GB  # 16 GB were seen
    assert not any(parameter.grad_fn for parameter in network.parameters())


@pytest.mark.parametrize("stage", ["", "stages.network."])
def test_too_little_memory_is_told_before_the_training(
    stage, finished, tmp_path, monkeypatch, capsys
):
    def stop(trainer, *args, **kwargs):
        raise InterruptedError

    monkeypatch.setattr("lightning.Trainer.fit", stop)
    monkeypatch.setattr(step_memory, "find_free_memory", lambda device: GB // 100)
    seeds, images = f"seeds={finished}/outputs/shapes/seeds/fine", "dataset.train_images=6"
    words = [seeds, "task=network"] if not stage else ["task=pipeline"]
    places = [f"paths.data={finished}/data", f"paths.work={tmp_path}", "logger=none", images]
    with pytest.raises(InterruptedError):
        run(train.main, monkeypatch, *words, *places, "dataset.val_images=3", "report=none")
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "a training step" in line]
    assert "network: a training step of 16 images of 112x112 takes about 0." in told
    assert f"0.0 GB are free: more {stage}data.micro_batches (now 1)" in told


MASK2FORMER = ["network=mask2former_swin_l", "network.weights=null", *SMALL["mask2former_swin_l"]]


@pytest.mark.parametrize(
    "network", [MASK2FORMER, ["network=own", "network.build._target_=odd_network.Odd"]]
)
def test_what_cannot_be_followed_without_content_is_measured_or_told(
    network, finished, tmp_path, monkeypatch, capsys
):
    """Mask2Former asks its tensors for numbers; a network of one's own may refuse blank images."""
    (tmp_path / "odd_network.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)

    def stop(trainer, *args, **kwargs):
        raise InterruptedError

    monkeypatch.setattr("lightning.Trainer.fit", stop)
    words = ["task=network", f"seeds={finished}/outputs/shapes/seeds/fine", *network, *VIEWS]
    places = [f"paths.data={finished}/data", f"paths.work={tmp_path}", "logger=none", "report=none"]
    with pytest.raises(InterruptedError):
        run(
            train.main,
            monkeypatch,
            *words,
            *places,
            "dataset.train_images=6",
            "dataset.val_images=3",
        )
    told = [line for line in capsys.readouterr().out.splitlines() if " step " in line]
    measured = "a training step of 16 images of 64x64 takes about 0."
    unknown = "what a step takes is not known; if it is too much, more data.micro_batches (now 1)"
    assert any((measured if network == MASK2FORMER else unknown) in line for line in told), told


def test_mask2former_is_measured_as_it_is_estimated_elsewhere():
    """Of a network that both ways count, the measured bytes are the estimated ones, and room."""
    network = TowerNetwork(tiny_clip(), 3, 48).train()
    module = SimpleNamespace(
        network=network, classes=["a", "b"], targets=trust_seeds, loss=lambda answer, targets: None
    )
    estimated = estimate_step(network, (2, 3, 96, 96), CPU, mixed=False)
    measured = measure_step(module, (2, 3, 96, 96), mixed=False)
    assert estimated < measured < 1.4 * estimated


def test_free_memory_is_the_least_that_the_system_tells(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   5 kB\n")
    assert read_available(meminfo) == 5120
    assert read_limit(tmp_path) is None
    (tmp_path / "memory.current").write_text("300\n")
    for limit, expected in (("max", None), ("1000", 700)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert read_limit(tmp_path) == expected
