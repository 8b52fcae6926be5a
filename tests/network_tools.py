"""Small networks with random weights, batches for them, and what `conf/network` builds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from fake_trees import draw_image
from front_door import ROOT, compose_config, run
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch import nn

import infer
import train
from fmawsss.networks.mask2former import Mask2FormerNetwork, MaskQueries
from lightning_modules.network import NetworkModule
from stages.words import translate

SWIN = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_size": 4,
    "image_size": 64,
}
WIDTHS = dict.fromkeys(("hidden_dim", "feature_size", "mask_feature_size"), 64)
DECODER = {
    **WIDTHS,
    "num_queries": 6,
    "decoder_layers": 3,
    "encoder_layers": 1,
    "num_attention_heads": 2,
}
CARRIED = {"network": {"_target_": "mynets.MyNet"}}  # what a checkpoint brings along
DECODER |= {"dim_feedforward": 32, "encoder_feedforward_dim": 32}


def build_small(classes: int = 4, **decoder: int) -> Mask2FormerNetwork:
    torch.manual_seed(0)
    return Mask2FormerNetwork({**SWIN, "drop_path_rate": 0.3}, {**DECODER, **decoder}, classes)


def draw_queries(
    images: int, classes: int, size: tuple[int, int], outputs: int = 2, queries: int = 6
) -> MaskQueries:
    generator = torch.Generator().manual_seed(0)
    answers = [
        torch.randn(images, queries, classes + 1, generator=generator) for _ in range(outputs)
    ]
    masks = [torch.randn(images, queries, *size, generator=generator) for _ in range(outputs)]
    return MaskQueries([a.requires_grad_() for a in answers], [m.requires_grad_() for m in masks])


def compose_network(name: str, *overrides: str) -> Callable[..., nn.Module]:
    """Compose `conf/network/NAME.yaml` alone, and return what builds the network.

    overrides: what to change in the network's node, `encoder=resnet18`.
    """
    changed = [f"network.learning.network.{override}" for override in overrides]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In 'network/.*_self_")  # the defaults come first
        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            cfg = compose(f"network/{name}", changed)
    return instantiate(cfg.network.learning.network)


def build_module(classes: Sequence[str], *words: str) -> NetworkModule:
    """Build what `task=network` trains, with the words of a command line."""
    node = compose_config("train", *translate(["task=network", "logger=none", *words])).stage
    arguments = {"carried": CARRIED, "config": {"seed": 1}, "classes": list(classes)}
    for section in (node.learning, node.applying, node.runtime.arguments):
        arguments |= instantiate(section, _convert_="all")
    return instantiate(node.model, _partial_=True, _convert_="all")(**arguments)


def draw_photos(folder: Path) -> Path:
    """Draw three photos of different sizes, one in a folder of its own."""
    (folder / "sub").mkdir(parents=True)
    sizes = {"a": (70, 101), "b": (64, 32), "sub/c": (33, 47)}
    for index, (name, size) in enumerate(sizes.items()):
        Image.fromarray(draw_image(index, size)).save(folder / f"{name}.png")
    return folder


def learn_few(folder: Path) -> Path:
    """Train a network on true masks for a few steps, through the front door; return its outputs."""
    few = ["dataset.train_images=6", "dataset.val_images=2", "loop.max_steps=4", "save_every=4"]
    seeds = f"seeds={folder}/data/shapes-0/SegmentationClass"
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", "logger=none"]
    with pytest.MonkeyPatch.context() as patch:
        run(train.main, patch, "task=network", seeds, *few, *places)
    return folder / "outputs"


def apply_network(
    monkeypatch: pytest.MonkeyPatch, trained: Path, out: Path, root: Path | str, *more: str
) -> Path:
    """Mask photos by a trained network, through the front door; return where the results are."""
    there = [
        f"paths.outputs={trained}",
        f"paths.work={out}",
        "data.workers=0",
        f"dataset.root={root}",
    ]
    run(infer.main, monkeypatch, "task=network", "dataset=folder", *there, *more)
    return out
