"""What a server answers: a mask as an indexed PNG, and areas as JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from fmawsss.files.png import encode_palette_png
from fmawsss.networks.segmenter import Segmentation, Segmenter

PNG, JSON = "image/png", "application/json"
KINDS = ("png", "json", "both")


def choose_kind(asked: str | None, accepted: str) -> str:
    """Choose what to answer: as asked for, else what is accepted, else the mask.

    Raises:
        ValueError: for another kind.

    >>> choose_kind(None, "*/*"), choose_kind(None, "application/json"), choose_kind("both", "")
    ('png', 'json', 'both')
    """
    if asked is not None and asked not in KINDS:
        raise ValueError(f"as={asked[:20]}: expected one of {', '.join(KINDS)}")
    return asked or ("json" if JSON in accepted and PNG not in accepted else "png")


def write_mask(found: Segmentation) -> bytes:
    """Write a mask as an indexed PNG whose values are the numbers of classes."""
    return encode_palette_png(found.mask, found.palette)


def describe_answer(found: Segmentation, version: str, with_mask: bool) -> dict[str, Any]:
    """Describe a mask: what it holds, how much of it, how sure the network is.

    confidence: the mean probability of the chosen class, of all pixels and of each class.
    """
    height, width = found.mask.shape
    answer = {
        "model_version": version,
        "width": width,
        "height": height,
        "confidence": round(float(found.confidence.mean(dtype=np.float64)), 4),
        "areas": list_areas(found),
    }
    if with_mask:
        answer["mask"] = f"data:{PNG};base64,{base64.b64encode(write_mask(found)).decode()}"
    return answer


def list_areas(found: Segmentation) -> list[dict[str, Any]]:
    """List the classes that occur with their pixels, shares of the image, and confidence."""
    pixels = np.bincount(found.mask.ravel(), minlength=len(found.classes))
    sums = np.bincount(found.mask.ravel(), found.confidence.ravel(), len(found.classes))
    return [
        {
            **describe_class(value, found.classes, found.palette.tolist()),
            "pixels": int(pixels[value]),
            "share": round(float(pixels[value] / found.mask.size), 6),
            "confidence": round(float(sums[value] / pixels[value]), 4),
        }
        for value in np.flatnonzero(pixels).tolist()
    ]


def list_classes(segmenter: Segmenter) -> list[dict[str, Any]]:
    """List the classes of a model, the background first."""
    colours = segmenter.palette.tolist()
    values = range(len(segmenter.classes))
    return [describe_class(value, segmenter.classes, colours) for value in values]


def describe_class(
    value: int, classes: Sequence[str], colours: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Describe what a value of a mask means."""
    return {"value": value, "class": classes[value], "colour": list(colours[value])}
