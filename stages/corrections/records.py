"""What is read of a file of corrections: what one image was given, or why it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from fmawsss.metrics import IGNORE
from fmawsss.resizing import Size
from stages.corrections.shapes import Pixels

BACKGROUND = "background"
ReadMask = Callable[[Size, Mapping[str, int]], UInt8[np.ndarray, "H W"]]


@dataclass(frozen=True)
class Shape:
    """A region of a class by its name, `background` for none; drawn where it is asked for."""

    label: str
    draw: Callable[[Size], Pixels]


@dataclass(frozen=True)
class Correction:
    """What a person has drawn on one image.

    image: its name, as the file has it.
    place: where this stands in the file, for messages.
    size: height and width, as the file says; None where it does not.
    shapes: in the order in which they are drawn, later ones over earlier ones.
    read: a whole mask in place of shapes, told the image's size and the values of the classes.
    """

    image: str
    place: str
    size: Size | None = None
    shapes: Sequence[Shape] = ()
    read: ReadMask | None = None


@dataclass(frozen=True)
class Refusal:
    """Why what a file says of an image is not taken."""

    image: str
    reason: str


@dataclass(frozen=True)
class Untouched:
    """An image that a file lists and nobody has annotated."""

    image: str


Found = Correction | Refusal | Untouched


@dataclass(frozen=True)
class Painted:
    """The trusted mask of an image, and how many of its pixels were drawn twice, differently."""

    mask: UInt8[np.ndarray, "H W"]
    overdrawn: int


def paint_correction(
    correction: Correction, size: Size, classes: Mapping[str, int], outside: int
) -> Painted:
    """Paint the trusted mask of an image of a size; what is drawn later lies above.

    classes: the value of each class by its name, the background's too.
    outside: the value of pixels that no shape covers.

    Raises:
        ValueError: for a class or a size that is not the data set's, and for what is no shape.
    """
    if correction.size not in (None, size):
        assert correction.size is not None
        raise ValueError(
            f"its size is {correction.size[1]}x{correction.size[0]} there, the image's "
            f"{size[1]}x{size[0]}"
        )
    if correction.read is not None:
        return Painted(correction.read(size, classes), 0)

    # shape by shape
    mask = np.full(size, outside, np.uint8)
    drawn, contested = np.zeros(size, bool), np.zeros(size, bool)
    for shape in correction.shapes:
        value = find_value(shape.label, classes)
        pixels = shape.draw(size)
        contested |= pixels & drawn & (mask != value)
        drawn |= pixels
        mask[pixels] = value
    return Painted(mask, int(contested.sum()))


def find_value(label: str, classes: Mapping[str, int]) -> int:
    """Return the mask value of a class; raises ValueError for one that the data set has not."""
    if label not in classes:
        known = ", ".join(classes)
        raise ValueError(f"label {label[:80]!r} is no class here, expected one of {known}")
    return classes[label]


def require_values(mask: UInt8[np.ndarray, "H W"], classes: Mapping[str, int]) -> None:
    """Raise ValueError for a mask that holds other values than classes and 255."""
    strange = mask[(mask >= len(classes)) & (mask != IGNORE)]
    if strange.size:
        raise ValueError(f"it holds the value {strange[0]}, expected 0 to {len(classes) - 1}, 255")
