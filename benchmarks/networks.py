"""What training and applying a network costs: `python -m benchmarks.networks`.

Random weights, as configured for VOC (21 classes). "Bare" is `network(images)` without gradients in
float32; a training step is forward, loss, backward and optimiser on one batch; prediction goes on
to masks at the images' own size; the loader reads, augments and collates on one core. Each network
runs in a process of its own, whose peaks are what a step or a prediction adds to what it held
before.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from benchmarks.inputs import QUICK, Setting, build_module, compose_training
from benchmarks.loader import SIZE, draw_photos
from benchmarks.measure import read_peak, reset_peak, set_threads, time_call
from datamodules.folder import FolderDataModule
from datamodules.labels import keep_image_labels
from datamodules.views import TrainingView
from fmawsss.records import Batch
from lightning_modules.network import NetworkModule

NETWORKS = ("tower", "deeplabv3plus_r101", "segformer_b5", "mask2former_swin_l")
SMALL = {
    "tower": ["network.build.width=16", "clip=tiny"],
    "timm": ["network.build.encoder=mobilenetv3_small_050"],
    "deeplabv3plus_r101": ["network.build.encoder=resnet18"],
    "segformer_b5": ["network.build.encoder=mit_b0"],
    "dinov3_convnext_b": ["network.build.encoder=mobilenetv3_small_050"],
    "eomt_dinov3_b": [
        "network.build.eomt.hidden_size=32", "network.build.eomt.num_hidden_layers=3",
        "network.build.eomt.num_attention_heads=2", "network.build.eomt.intermediate_size=64",
        "network.build.eomt.num_blocks=1", "network.loss.points=100",
    ],
    "mask2former_swin_l": [
        "network.build.swin.embed_dim=8", "network.build.swin.num_heads=[1,1,1,1]",
        "network.build.swin.depths=[1,1,1,1]", "network.build.swin.window_size=4",
        "network.loss.points=100",
    ],
}  # fmt: skip
FULL = {"tower": ["clip.clip.pretrained=null"]}
HEADER = (
    "network",
    "million parameters",
    "bare, s / image",
    "training step",
    "prediction",
    "loader",
    "peak of a step",
    "of a prediction",
)


@dataclass(frozen=True)
class Costs:
    """Seconds per image, and bytes."""

    parameters: int
    bare: float  # at the size of training
    bare_whole: float  # at the size of prediction
    step: float
    prediction: float
    loader: float
    step_peak: int
    prediction_peak: int


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    crop: int
    batch: int
    repetitions: int


def main(words: Sequence[str] | None = None) -> None:
    """Measure networks and print a Markdown table, in multiples of the bare forward pass."""
    options = read_options(words)
    small = options.quick
    sizes = Sizes(64, 2, 1) if small else Sizes(options.crop, options.batch, options.repetitions)
    setting = Setting(QUICK, sizes.batch, torch.device(options.device), options.threads)
    print("\n".join(("| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|")), flush=True)  # noqa: T201
    context = get_context("forkserver")
    for name in options.networks:
        with ProcessPoolExecutor(1, context) as pool:
            costs = pool.submit(
                measure_network, name, (SMALL if small else FULL).get(name, []), sizes, setting
            ).result()
        print(format_row(name, costs), flush=True)  # noqa: T201


def read_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--networks", nargs="*", choices=list(SMALL), default=list(NETWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="small networks, to see that everything runs"
    )
    return parser.parse_args(words)


def measure_network(name: str, changes: list[str], sizes: Sizes, setting: Setting) -> Costs:
    """Measure one network in this process."""
    logging.disable(logging.WARNING)
    set_threads(setting.threads)
    cfg = compose_network(name, changes, sizes.crop)
    classes = list(cfg.dataset.classes)
    module = build_module(cfg.stage, classes=classes, carried={}, config={}).to(setting.device)
    height, width = instantiate(cfg.stage.prediction.view.resize).find_size(SIZE)
    whole = torch.randn(1, 3, height, width, device=setting.device)
    crops = torch.randn(sizes.batch, 3, sizes.crop, sizes.crop, device=setting.device)
    seeds = draw_seeds(sizes, len(module.classes)).to(setting.device)

    def measure(call: Callable[[], object]) -> tuple[float, int]:
        call()
        before = reset_peak(setting.device)
        seconds = median(time_call(call, setting)[0] for _ in range(sizes.repetitions))
        return seconds, read_peak(setting.device) - before

    step, step_peak = measure(build_step(module, crops, seeds))
    module.eval()
    bare, _ = measure(torch.no_grad()(lambda: module.network(crops)))
    bare_whole, _ = measure(torch.no_grad()(lambda: module.network(whole)))
    prediction, peak = measure(
        torch.no_grad()(lambda: module.predict_step(Batch(["photo"], whole, [SIZE])))
    )
    parameters = sum(p.numel() for p in module.network.parameters())
    loader = time_loader(cfg, sizes, setting)
    return Costs(
        parameters, bare / sizes.batch, bare_whole, step / sizes.batch, prediction, loader,
        step_peak, peak,
    )  # fmt: skip


def compose_network(name: str, changes: list[str], crop: int) -> DictConfig:
    """Compose the training of a network on VOC, with random weights."""
    words = [
        "task=network",
        "dataset=voc",
        f"network={name}",
        "network.weights=null",
        f"augment.crop={crop}",
        *changes,
    ]
    return compose_training(*words)


def draw_seeds(sizes: Sizes, classes: int) -> torch.Tensor:
    """Draw seeds of a few classes in blocks."""
    coarse = torch.randint(
        0, classes + 1, (sizes.batch, 1, 2, 2), generator=torch.Generator().manual_seed(0)
    )
    return torch.nn.functional.interpolate(coarse.float(), size=(sizes.crop, sizes.crop))[:, 0].to(
        torch.uint8
    )


def build_step(
    module: NetworkModule, crops: torch.Tensor, seeds: torch.Tensor
) -> Callable[[], object]:
    """Make a training step."""
    optimizer = module.configure_optimizers()["optimizer"]
    module.train()

    def step() -> object:
        loss = module.loss(module.network(crops), module.targets(seeds, None))
        optimizer.zero_grad()
        loss.backward()
        return optimizer.step()

    return step


def time_loader(cfg: DictConfig, sizes: Sizes, setting: Setting) -> float:
    """Return the seconds per image of a loader without workers."""
    with tempfile.TemporaryDirectory() as folder:
        draw_photos(Path(folder), 4)
        training = TrainingView(
            split="all",
            batch_size=sizes.batch,
            micro_batches=1,
            seed=0,
            normalise=instantiate(cfg.stage.prediction.view.normalise, _convert_="all"),
            augment=instantiate(cfg.stage.training.view.augment, _convert_="all"),
            crop_labels=keep_image_labels,
            seeds=Path(folder) / "seeds",
        )
        data = FolderDataModule(
            root=Path(folder) / "photos",
            frames=folder,
            frame_step=1,
            masks=None,
            classes=list(cfg.dataset.classes),
            labels=None,
            labelled=False,
            training=training,
        )
        data.setup("fit")
        batches = iter(data.train_dataloader())
        next(batches)
        seconds, _ = time_call(lambda: list(islice(batches, sizes.repetitions)), setting)
    return seconds / sizes.repetitions / sizes.batch


def format_row(name: str, costs: Costs) -> str:
    """Write the costs of one network as multiples of its bare forward pass at the same size."""
    cells = [
        f"{costs.parameters / 1e6:.1f}",
        f"{costs.bare:.3g}",
        f"{costs.step / costs.bare:.2f}x",
        f"{costs.prediction / costs.bare_whole:.2f}x",
        f"{costs.loader / costs.bare:.3f}x",
        *(f"{peak / 2**30:.2f} GB" for peak in (costs.step_peak, costs.prediction_peak)),
    ]
    return f"| {' | '.join([name, *cells])} |"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
