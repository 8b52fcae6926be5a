"""How fast training images are loaded: `python -m benchmarks.loader`.

Photos of VOC's size are drawn, then loaded as `task=seg dataset=voc` loads them: images and seeds,
published augmentation, batches of 16. Steps and the loader without workers are given per second of
one core's own time, whatever else runs; loaders with workers, and the frozen pass of CLIP ViT-B/16
(random weights), by the clock on the wall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
from hydra.utils import instantiate
from PIL import Image

from benchmarks.inputs import compose_training
from datamodules.folder import FolderDataModule
from datamodules.labels import keep_image_labels
from datamodules.loading import Loading
from datamodules.transforms import View
from datamodules.views import TrainingView
from fmawsss.files.images import read_image
from fmawsss.files.png import read_mask, write_palette_png
from fmawsss.resizing import Normaliser, resize_image
from fmawsss.viz import make_palette

ROOT = Path(__file__).parents[1]
SIZE = (375, 500)  # of most photos of VOC
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table of images per second."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20, help="timed batches of 16 per row")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--quick", action="store_true", help="show that it works; the numbers mean little"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.images, options.batches, options.workers = 4, 1, [0]

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        draw_photos(Path(folder), options.images)
        rows = [*time_steps(Path(folder), options.batches), *time_loaders(Path(folder), options)]
    if not options.quick:
        rows.append(time_encoder())
    print("| what | images per second |\n|---|---|")  # noqa: T201
    for what, rate in rows:
        print(f"| {what} | {rate:.1f} |")  # noqa: T201


def draw_photos(folder: Path, images: int) -> None:
    """Draw photos that compress like real ones (smooth shapes, some noise), and seeds."""
    rng, palette = np.random.default_rng(0), make_palette(256)
    (folder / "photos").mkdir()
    for number in range(images):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC))
        noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "photos" / f"{number}.jpg", quality=90)
        seed = np.asarray(
            Image.fromarray(rng.integers(0, 21, (6, 8), dtype=np.uint8)).resize(SIZE[::-1], 0)
        )
        write_palette_png(folder / "seeds" / f"{number}.png", seed, palette)


def time_steps(folder: Path, batches: int) -> Iterator[tuple[str, float]]:
    """Time each step of a sample on its own."""
    augment = load_augmentation()
    path = folder / "photos" / "0.jpg"
    image, seed = read_image(path), read_mask(folder / "seeds" / "0.png")
    view = augment(View(image, seed), np.random.default_rng(0))
    normalise, rng = Normaliser(MEAN, STD), np.random.default_rng(0)
    steps: dict[str, Callable[[], object]] = {
        "read JPEG": lambda: read_image(path),
        "read seed": lambda: read_mask(folder / "seeds" / "0.png"),
        "colour jitter": lambda: augment.jitter(image, rng),
        "resize": lambda: resize_image(image, (300, 400)),
        "whole augmentation": lambda: augment(View(image, seed), rng),
        "normalise": lambda: normalise(view.image),
    }
    for what, step in steps.items():
        yield what, measure_rate(step, 16 * batches)


def time_loaders(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Time training loaders with different numbers of workers."""
    for workers in options.workers:
        training = TrainingView(
            split="all",
            batch_size=16,
            micro_batches=1,
            seed=0,
            normalise=Normaliser(MEAN, STD),
            augment=load_augmentation(),
            crop_labels=keep_image_labels,
            seeds=folder / "seeds",
        )
        data = FolderDataModule(
            root=folder / "photos",
            frames=folder,
            frame_step=1,
            masks=None,
            classes=[str(number) for number in range(20)],
            labels=None,
            labelled=False,
            training=training,
            loading=Loading(workers),
        )
        data.setup("fit")
        batches = iter(data.train_dataloader())
        list(islice(batches, 2 * workers + 1))  # workers are up, their queues full
        clock = time.perf_counter if workers else time.process_time
        start = clock()
        images = sum(len(batch) for batch in islice(batches, options.batches))
        yield f"loader, {workers} workers", images / (clock() - start)
        del batches


def time_encoder() -> tuple[str, float]:
    """Time the image tower of CLIP ViT-B/16 on the fastest device there is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = open_clip.create_model("ViT-B-16-quickgelu").visual.eval().to(device)
    images = torch.randn(16, 3, 224, 224, device=device)

    def encode() -> None:
        with torch.no_grad(), torch.autocast(device, torch.float16, enabled=device == "cuda"):
            tower(images)
        if device == "cuda":
            torch.cuda.synchronize()

    encode()
    repetitions, start = 1 if device == "cpu" else 50, time.perf_counter()
    for _ in range(repetitions):
        encode()
    return f"CLIP ViT-B/16 on {device}, 224 x 224", 16 * repetitions / (time.perf_counter() - start)


def load_augmentation() -> Callable:
    """Build the published augmentation from its config."""
    view = compose_training("task=seg", "dataset=voc").stage.training.view
    return instantiate(view.augment, _convert_="all")


def measure_rate(step: Callable[[], object], repetitions: int) -> float:
    """Call a step some times; return calls per second of this process's own time."""
    start = time.process_time()
    for _ in range(repetitions):
        step()
    return repetitions / (time.process_time() - start)


if __name__ == "__main__":
    main()
