"""What each part of the region memory is worth: `python -m benchmarks.memory_ablations`.

Reads what `python -m benchmarks.shapes` made, draw by draw, and makes the seeds of every stage once
more with one part of the memory (METHOD 11.1) changed at a time. Nothing is trained or chosen; the
truth is read for scores only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, get_tokenizer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from benchmarks.spread import spread
from fmawsss.clip.encoder import FrozenClip
from fmawsss.files.images import read_image
from fmawsss.files.png import read_mask
from fmawsss.files.regions import find_values, read_regions, require_keys
from fmawsss.files.storage import read_superpixels
from fmawsss.memory import (
    ImageRegions,
    MemoryReader,
    build_memory,
    join_keys,
    pool_keys,
)
from fmawsss.memory_keys import project_patches
from fmawsss.metrics import count_confusion, summarise_confusion
from fmawsss.resizing import Picture
from fmawsss.seeding import Seed, higher_confidence, higher_level
from fmawsss.superpixels import Superpixels
from fmawsss.tiny.models import tiny_clip, tiny_sam
from fmawsss.tiny.shapes import CLASS_NAMES
from lightning_modules.memory_seeds import paint_regions

KINDS = {"hand-written": "handwritten", "cls": "coarse", "seg": "fine"}
PRIORITY = (higher_level, higher_confidence)
BINS = 10  # of confidence


@dataclass(frozen=True, eq=False)
class Image:
    """What the memory knows of an image, and its truth."""

    regions: ImageRegions
    keys: Float[Tensor, "M D"]
    projected: Float[Tensor, "M F"]
    sam: Float[Tensor, "M E"]
    superpixels: Superpixels
    truth: Tensor
    labels: Tensor


MakeKeys = Callable[[Image], Tensor]
READER = MemoryReader(least=3)
# What is changed: the reader, the keys, whether images must share a label
VARIANTS: dict[str, tuple[MemoryReader | None, MakeKeys, bool]] = {
    "SAMS alone": (None, lambda image: image.keys, True),
    "with memory": (READER, lambda image: image.keys, True),
    "without the label filter": (READER, lambda image: image.keys, False),
    "keys of projected features": (READER, lambda image: image.projected, True),
    "keys of SAM's encoder": (READER, lambda image: image.sam, True),
    "joined keys, τ = 10": (
        replace(READER, temperature=10.0), lambda image: join_keys(image.keys, image.sam), True,
    ),
    **{
        f"{name} = {value:g}": (replace(READER, **{field: value}), lambda image: image.keys, True)
        for name, field, values in (
            ("K", "neighbours", (10, 20, 80)),
            ("τ", "temperature", (1.0, 10.0, 30.0)),
            ("own share", "own_share", (0.0, 0.1, 0.5)),
        )
        for value in values
    },
}  # fmt: skip


def main() -> None:
    """Print a table of mIoU for each variant and stage, mean ± standard deviation over draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-draw", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("outputs/study"))
    options = parser.parse_args()

    draws = range(options.first_draw, options.first_draw + options.seeds)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for draw in draws:
        for kind, name in KINDS.items():
            images = read_images(options.folder / str(draw), draw, name)
            for variant, how in VARIANTS.items():
                found.setdefault((variant, kind), []).append(measure(images, *how))

    print(f"| mIoU, {len(draws)} draws | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")  # noqa: T201
    for variant in VARIANTS:
        cells = [spread([miou for miou, _ in found[variant, kind]]) for kind in KINDS]
        print(f"| {variant} | {' | '.join(cells)} |")  # noqa: T201
    print("\nCalibration error of the confidence of pixels, percent:")  # noqa: T201
    for variant in ("SAMS alone", "with memory"):
        cells = [spread([error for _, error in found[variant, kind]]) for kind in KINDS]
        print(f"| {variant} | {' | '.join(cells)} |")  # noqa: T201


def read_images(folder: Path, draw: int, name: str) -> list[Image]:
    """Read all images of a draw: regions, keys of CLIP and of SAM, superpixels and truth."""
    data, sam = folder / "data" / f"shapes-{draw}", tiny_sam()
    clip = FrozenClip(
        tiny_clip(), OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, get_tokenizer("ViT-B-16")
    )
    images = []
    for path in sorted((folder / "shapes" / "regions" / name).glob("*.npz")):
        regions = read_regions(path)
        superpixels = read_superpixels(folder / "shapes" / "superpixels" / path.name)
        picture = read_image(data / "JPEGImages" / f"{path.stem}.jpg")
        patches, grid = encode(sam, picture)
        labels = torch.zeros(len(CLASS_NAMES), dtype=torch.bool)
        labels[regions.classes] = True
        images.append(
            Image(
                regions,
                require_keys(path, regions),
                pool_keys(*project(clip, picture), superpixels),
                pool_keys(patches, grid, superpixels),
                superpixels,
                torch.from_numpy(read_mask(data / "SegmentationClass" / f"{path.stem}.png")),
                labels,
            )
        )

    # SAM's features share a large mean, which says nothing
    centre = torch.cat([image.sam for image in images]).mean(dim=0)
    return [replace(image, sam=F.normalize(image.sam - centre, dim=1)) for image in images]


@torch.inference_mode()
def project(clip: FrozenClip, picture: Picture) -> tuple[Tensor, tuple[int, int]]:
    """Encode an image, whose sides are whole patches, with CLIP: what it projects, and the grid."""
    mean, std = torch.tensor(clip.image_mean), torch.tensor(clip.image_std)
    tensor = (torch.from_numpy(picture) / 255 - mean) / std
    tokens = clip.encode_images(tensor.permute(2, 0, 1)[None], None, 1)
    height, width = picture.shape[:2]
    return project_patches(clip, tokens)[0], (height // clip.patch_size, width // clip.patch_size)


@torch.inference_mode()
def encode(sam: torch.nn.Module, picture: Picture) -> tuple[Tensor, tuple[int, int]]:
    """Encode an image with SAM: features of its cells, and their grid."""
    resized = ResizeLongestSide(sam.image_encoder.img_size).apply_image(picture)
    tensor = torch.from_numpy(resized).permute(2, 0, 1)[None].float()
    features = sam.image_encoder(sam.preprocess(tensor))[0]
    return features.flatten(1).T, (features.shape[1], features.shape[2])


def measure(
    images: list[Image], reader: MemoryReader | None, make_keys: MakeKeys, filtered: bool
) -> tuple[float, float]:
    """Measure mIoU and calibration error of the seeds that one variant makes of all images."""
    classes = len(CLASS_NAMES)
    keys = [make_keys(image) for image in images]
    values = [find_values(image.regions, classes) for image in images]
    shown = [image.labels if filtered else torch.ones_like(image.labels) for image in images]
    memory = build_memory(keys, values, shown)
    matrix = torch.zeros(classes + 1, classes + 2, dtype=torch.int64)
    bins = torch.zeros(3, BINS, dtype=torch.float64)  # pixels, those that are right, confidence
    for number, image in enumerate(images):
        scores = image.regions.scores
        if reader is not None:
            told, found = reader.explain(keys[number], values[number], image.labels, memory, number)
            present = torch.cat([torch.zeros(1).long(), image.regions.classes + 1])
            scores = told[:, present].T if found.rows.numel() else scores
        seed = paint_regions(scores, image.regions, image.superpixels, PRIORITY)
        matrix += count_confusion(seed.labels, image.truth, classes + 1)
        bins += count_bins(seed, image.truth)
    pixels, right, sure = bins
    error = (right - sure).abs().sum() / pixels.sum()
    miou = summarise_confusion(matrix, ["background", *CLASS_NAMES]).miou
    return miou, error.item()


def count_bins(seed: Seed, truth: Tensor) -> Tensor:
    """Count pixels, right pixels and confidence in bins of confidence."""
    known = truth != 255
    sure, right = seed.confidence[known].double(), (seed.labels == truth)[known].double()
    place = (sure * BINS).long().clamp(0, BINS - 1)
    weights = (torch.ones_like(sure), right, sure)
    return torch.stack([torch.bincount(place, weight, BINS) for weight in weights])


if __name__ == "__main__":
    main()
