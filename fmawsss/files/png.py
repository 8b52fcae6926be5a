"""Masks and pictures as PNG files: class masks keep their indices, whatever is none is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from torch import Tensor

from fmawsss.files.images import describe_fault
from fmawsss.files.json_files import REMAKE, require_file
from fmawsss.files.png_data import refuse_missing_rows
from fmawsss.files.writing import replace_file

GREY, INDEXED = 0, 3  # colour types of a PNG


def write_palette_png(
    path: Path,
    mask: UInt8[Tensor, "H W"] | UInt8[np.ndarray, "H W"],
    palette: UInt8[Tensor, "R 3"] | UInt8[np.ndarray, "R 3"],
) -> None:
    """Write a class mask as an indexed PNG, shown in the palette's colours."""
    with replace_file(path) as temporary:
        temporary.write_bytes(encode_palette_png(mask, palette))


def encode_palette_png(
    mask: UInt8[Tensor, "H W"] | UInt8[np.ndarray, "H W"],
    palette: UInt8[Tensor, "R 3"] | UInt8[np.ndarray, "R 3"],
) -> bytes:
    """Encode a class mask as an indexed PNG, shown in the palette's colours."""
    image = Image.fromarray(np.ascontiguousarray(mask))
    # a shorter palette would cut the indices' bits
    image.putpalette(np.asarray(palette).tobytes().ljust(768, b"\0"))
    buffer = io.BytesIO()
    image.save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def write_png(
    path: Path,
    image: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"],
) -> None:
    """Write an RGB picture, or a grey one of 8 or 16 bits."""
    with replace_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, format="png", compress_level=3)


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the class indices of an indexed or 8-bit grey PNG.

    Raises:
        ValueError: naming the file, for anything else.
    """
    require_file(path)
    try:
        with Image.open(path) as image:
            fault = _find_mask_fault(path, image)
            if not fault:
                mask = np.array(image)
                refuse_missing_rows(path, image)
                return mask
    except PermissionError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; allow it") from error
    except Exception as error:  # decoders have many kinds for what broken files do to them
        raise ValueError(
            f"{path} cannot be read as a PNG mask ({describe_fault(error)}): {REMAKE}"
        ) from error
    raise ValueError(fault)


def _find_mask_fault(path: Path, image: Image.Image) -> str:
    """Say in what a picture differs from a class mask, nothing for one."""
    found = f"{image.format} of mode {image.mode}"
    if image.format == "PNG":
        with Path(path).open("rb") as file:
            depth, colour = file.read(26)[24:]
        if colour == INDEXED or (colour, depth) == (GREY, 8):
            return ""
        found += f" with {depth} bits a channel"
    return (
        f"{path} is no class mask: expected an indexed or 8-bit grey PNG of class indices, found "
        f"{found}. Convert its colours to class indices first"
    )
