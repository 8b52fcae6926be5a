"""Read images of every common kind as 8-bit RGB, or refuse them by name."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from fmawsss.files.jpeg import refuse_grey_end, refuse_zeros
from fmawsss.files.png_data import has_late_exif, refuse_missing_rows
from fmawsss.resizing import fit_longest

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k",
)  # fmt: skip
KINDS = {
    "JPEG",
    "MPO",
    "PNG",
    "WEBP",
    "AVIF",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "PPM",
    "TGA",
    "JPEG2000",
}  # as Pillow names them; it would give others, such as EPS, to other programs
OR_LESS = ", or take it out of the data set"
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXCHANGED = (5, 6, 7, 8)  # width and height
TURNED_TIFFS = 2  # version of how they are read; 1 took plain ones with their sides exchanged
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_WIDE_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_PLAIN = ("1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")


class TooLargeError(ValueError):
    """An image has more pixels than allowed."""


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read the first picture of a file as RGB, upright.

    The EXIF rotation is applied, transparent pixels are laid on white, 16-bit values keep their
    high byte, colour profiles are ignored. Raises FileNotFoundError, and ValueError for files that
    are broken or of an unknown kind.
    """
    with _open_picture(path) as file:
        refuse_zeros(path, file)
        file.load()
        refuse_grey_end(path, file)
        refuse_missing_rows(path, file)
        picture = _turn_upright(file)
        return np.array(convert_to_rgb(picture))


def read_bounded(path: Path, megapixels: float, remedy: str) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image that somebody sent as `read_image` does; one of more pixels is not decoded.

    Raises:
        TooLargeError: for more than `megapixels` million, telling the remedy.
    """
    width, height = read_stored_size(path)
    if width * height > megapixels * 1e6:
        raise TooLargeError(
            f"the image has {width} x {height} pixels, more than {megapixels:g} million: "
            f"shrink it, or {remedy}"
        )
    return read_image(path)


def read_shrunk(path: Path, longest: int) -> tuple[UInt8[np.ndarray, "H W 3"], tuple[int, int]]:
    """Read a copy whose longer side is at most `longest`, and the height and width of the picture.

    A JPEG is decoded at a half, a quarter or an eighth where that suffices, so that no array is as
    large as the picture. Raises what `read_image` does.
    """
    with _open_picture(path) as file:
        size, turn = _measure_upright(file), _TURNS.get(_read_orientation(file))
        width, height = stored = fit_longest(file.size, longest)
        drafted = file.draft(None, stored) if stored != file.size else None
        file.load()
        refuse_grey_end(path, file)
        refuse_missing_rows(path, file)
        picture = convert_to_rgb(file)
        if picture.size != stored:
            # first the width, as `fmawsss.resizing` does; an eighth may end within a pixel
            right, below = picture.size if drafted is None else drafted[1][2:]
            bicubic, box = Image.Resampling.BICUBIC, (0, 0, right, picture.height)
            picture = picture.resize((width, picture.height), bicubic, box)
            picture = picture.resize((width, height), bicubic, (0, 0, width, below))
        return np.array(picture if turn is None else picture.transpose(turn)), size


def try_image(path: Path) -> tuple[int, int]:
    """Read a whole file and return height and width; refuse what `read_image` refuses, sooner."""
    with _open_picture(path) as file:
        size = _measure_upright(file)
        file.draft(None, (max(file.width // 8, 1), max(file.height // 8, 1)))
        refuse_zeros(path, file)
        file.load()
        refuse_grey_end(path, file)
        refuse_missing_rows(path, file)
        convert_to_rgb(file)
        return size


def read_size(path: Path) -> tuple[int, int]:
    """Read the height and width of the upright picture from the file's header."""
    with _open_picture(path) as file:
        return _measure_upright(file)


def measure_head(head: bytes) -> tuple[int, int] | None:
    """Read the height and width of an upright JPEG from its first bytes, None if they lack them."""
    with suppress(Exception), Image.open(io.BytesIO(head), formats=["JPEG"]) as file:
        return _measure_upright(file)
    return None


def read_stored_size(path: Path) -> tuple[int, int]:
    """Read the two sides of a picture as they are stored; nothing of it is decoded."""
    with _open_picture(path) as file:
        return file.size


def is_turned_tiff(path: Path | str) -> bool:
    """Say whether a file is a TIFF that is turned by a quarter; other endings are not opened."""
    if not os.fspath(path).lower().endswith((".tif", ".tiff")):
        return False
    with suppress(FileNotFoundError, ValueError), _open_picture(Path(path)) as file:
        return file.format == "TIFF" and _read_orientation(file) in _EXCHANGED
    return False


@contextmanager
def _open_picture(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Open a file; whatever fails while it is read becomes an error that names it."""
    try:
        stamp_file(path)  # a reader would wait for a pipe
        with Image.open(path) as file:
            if file.format not in KINDS:
                raise ValueError(f"a picture of kind {file.format}")
            file.filename = ""  # Pillow would map a turned TIFF into memory, sides exchanged
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"image {path} does not exist; restore it{OR_LESS}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"image {path} is too large to be read: {error}; shrink it") from error
    except PermissionError as error:
        raise ValueError(f"image {path} cannot be read: {error.strerror}; allow it") from error
    except Exception as error:  # decoders have many kinds for what broken files do to them
        raise ValueError(
            f"image {path} cannot be read ({describe_fault(error)}); expected a whole image of "
            f"kind {', '.join(SUFFIXES)}: copy or convert it again{OR_LESS}"
        ) from error


def describe_fault(error: Exception) -> str:
    """Say in a line what a decoder found."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture, or an empty file"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _measure_upright(picture: Image.Image) -> tuple[int, int]:
    """Return height and width after the EXIF rotation, which the size of a TIFF has already."""
    tags = getattr(picture, "tag_v2", None)
    width, height = (tags[_WIDTH], tags[_HEIGHT]) if tags else picture.size
    return (width, height) if _read_orientation(picture) in _EXCHANGED else (height, width)


def _turn_upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF rotation, if the file carries one."""
    turn = _TURNS.get(_read_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _read_orientation(picture: Image.Image) -> int:
    """Read the EXIF rotation alone, 1 for none; other tags may be of any kind, broken ones too.

    Raises what a decoder raises for a PNG whose EXIF comes after its pixels.
    """
    if isinstance(picture, PngImageFile) and has_late_exif(picture):
        picture.load()
    try:  # the reader of a PNG would decode it when it has no EXIF
        exif = Image.Image.getexif(picture)
        orientation = exif.get(_ORIENTATION, 1)
    except Exception:  # a block that is none
        return 1
    return orientation if orientation in _TURNS else 1


def convert_to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a picture of any common mode into RGB; raises ValueError for others."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in _WIDE_GREY:
        return Image.fromarray(_flatten_wide_grey(picture)).convert("RGB")
    if picture.mode == "P" and not (picture.palette and picture.palette.palette):
        raise ValueError("its colours are numbers of a palette that it lacks, all would be black")
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if picture.mode in _PLAIN:
        return picture.convert("RGB")
    raise ValueError(f"pixels of mode {picture.mode} have no agreed range; convert it to 8-bit RGB")


def _flatten_wide_grey(picture: Image.Image) -> UInt8[np.ndarray, "H W"]:
    """Scale 16-bit grey values to 8 bits; what a PNG declares transparent becomes white."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()} do not fit 16 bits")
    grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
    return np.where(values == picture.info.get("transparency", -1), np.uint8(255), grey)


def stamp_file(path: Path) -> str:
    """Return a short text that changes when a file does; raises ValueError for a pipe."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no file to read: take it away")
    return f"{status.st_size}-{status.st_mtime_ns}"
