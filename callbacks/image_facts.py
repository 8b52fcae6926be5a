"""What the journal notes of an image beside its scores: where it lies, its labels, the regions that
were predicted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fmawsss.records import ImageRecord
from fmawsss.seeding import find_top_masks
from fmawsss.superpixels import Superpixels
from lightning_modules.network import MaskPrediction
from lightning_modules.prompts import SeedPrediction
from lightning_modules.superpixels import SuperpixelPrediction

SHOWN = 3  # classes, beside the labelled ones


def describe_record(record: ImageRecord) -> dict[str, Any]:
    """Say where an image and its truth lie, and which classes (indices) it is labelled with; None
    where unknown.
    """
    return {
        "image": str(record.image.absolute()),
        "image_stamp": stamp_image(record.image),
        "truth": None if record.truth is None else str(record.truth.absolute()),
        "labels": None if record.labels is None else list(record.labels),
    }


def stamp_image(path: Path) -> dict[str, int | str]:
    """Note what tells an image file from another of its name."""
    status = path.stat()
    return {"bytes": status.st_size, "modified": status.st_mtime_ns, "sha256": digest_file(path)}


def is_unchanged(path: Path, stamp: Mapping[str, int | str]) -> bool:
    """Say whether a file is the one that was noted; it is read only where its size is the same and
    its time is not.
    """
    status = path.stat()
    if status.st_size != stamp["bytes"]:
        return False
    return status.st_mtime_ns == stamp["modified"] or digest_file(path) == stamp["sha256"]


def digest_file(path: Path) -> str:
    """Digest the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def describe_prediction(prediction: Any) -> dict[str, Any]:
    """Describe the regions of each kind of mask, and the superpixels, as far as a prediction has
    them.
    """
    if isinstance(prediction, SuperpixelPrediction):
        return {"superpixels": describe_superpixels(prediction.superpixels)}
    if isinstance(prediction, SeedPrediction):
        regions = {
            kind: list_regions(seed.labels, seed.confidence)
            for kind, seed in prediction.seeds.items()
        }
        return {"regions": regions, **list_probable(prediction)}
    if isinstance(prediction, MaskPrediction):
        return {"regions": {"network": list_regions(prediction.mask, prediction.confidence)}}
    return {}


def list_probable(prediction: SeedPrediction) -> dict[str, Any]:
    """List (class, probability) of the labelled classes and of the most probable others; nothing
    without a model.
    """
    if prediction.probabilities is None:
        return {}
    present, top = prediction.classes.tolist(), min(SHOWN, len(prediction.probabilities))
    chosen = dict.fromkeys([*present, *prediction.probabilities.topk(top).indices.tolist()])
    return {
        "probable": [[index, round(prediction.probabilities[index].item(), 3)] for index in chosen]
    }


def list_regions(mask: UInt8[Tensor, "H W"], confidence: Float[Tensor, "H W"]) -> list[list[float]]:
    """List (value, share of the image, mean confidence) for each value of a mask, in ascending
    order.

    >>> list_regions(torch.tensor([[0, 0, 2, 2]], dtype=torch.uint8), torch.tensor([[1.0, 0.5, 0.25, 0.25]]))
    [[0, 0.5, 0.75], [2, 0.5, 0.25]]
    """
    values = mask.flatten().long()
    pixels = torch.bincount(values)
    summed = torch.bincount(values, weights=confidence.flatten().double())
    present = pixels.nonzero().flatten().tolist()
    return [
        [
            value,
            round(pixels[value].item() / len(values), 4),
            round((summed[value] / pixels[value]).item(), 4),
        ]
        for value in present
    ]


def describe_superpixels(superpixels: Superpixels) -> dict[str, Any]:
    """Count the masks of each level, the share of the image that some mask covers, and the median
    mask's share.
    """
    height, width = superpixels.size
    shares = superpixels.area.double() / (height * width)
    top = find_top_masks(torch.arange(len(superpixels)), superpixels, torch.device("cpu"))
    return {
        "levels": torch.bincount(superpixels.level.long(), minlength=3).tolist(),
        "covered": round((top >= 0).double().mean().item(), 4),
        "median_area": round(shares.median().item(), 5) if len(shares) else None,
    }
