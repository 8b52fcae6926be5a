"""Indexed PNGs, a mask of class values for each image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fmawsss.files.images import describe_fault
from fmawsss.files.png import read_mask
from fmawsss.resizing import Size
from stages.corrections.archives import Source
from stages.corrections.records import Correction, Found, require_values

MOST_PNG = 1 << 28  # bytes


def read_pictures(source: Source) -> Iterator[Found]:
    """Read the PNGs of a source, each named like its image; 255 is what nobody touched."""
    for file in source.find(".png"):
        yield Correction(file, file, read=partial(read_indices, source, file))


def read_indices(
    source: Source, file: str, size: Size, classes: Mapping[str, int]
) -> UInt8[np.ndarray, "H W"]:
    """Read a mask; raises ValueError for one of another size or other values."""
    with open_png(source, file, size):
        pass  # its size is right: it may be decoded
    mask = read_mask(source.place(file))
    require_values(mask, classes)
    return mask


@contextmanager
def open_png(source: Source, file: str, size: Size) -> Iterator[Image.Image]:
    """Open a PNG of a size; raises ValueError for another size, before anything is decoded."""
    data = source.read(file, MOST_PNG)
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
    except Exception as error:  # decoders have many kinds for what broken files do to them
        raise ValueError(f"it is no PNG ({describe_fault(error)})") from error
    if (picture.height, picture.width) != size:
        raise ValueError(
            f"its size is {picture.width}x{picture.height}, the image's {size[1]}x{size[0]}"
        )
    try:
        yield picture
    except (OSError, SyntaxError) as error:
        raise ValueError(f"it is broken ({describe_fault(error)})") from error
