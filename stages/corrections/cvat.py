"""CVAT's exports: `CVAT for images 1.1` (XML), and `Segmentation mask 1.1` (PNGs in colours)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import IO
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from datamodules.labels import PlainTree
from fmawsss.resizing import Size
from stages.corrections.archives import Source
from stages.corrections.pictures import open_png
from stages.corrections.records import Correction, Found, Refusal, Shape, Untouched, find_value
from stages.corrections.shapes import Pixels, draw_box, draw_ellipse, draw_polygon, draw_runs

PART = 1 << 16  # bytes of XML that are read at once
MOST_TEXT = 1 << 20  # bytes of a label map
DRAWN = ("polygon", "box", "ellipse", "mask")
UNDRAWN = ("polyline", "points", "cuboid", "skeleton")
EXPORT = "export the task as `CVAT for images 1.1` or `Segmentation mask 1.1`"
MASKS = "SegmentationClass"


class ImageTree:
    """Build the elements of an annotation file one `image` after the other; a DTD is refused."""

    def __init__(self) -> None:
        self.done: list[ElementTree.Element] = []
        self.tracks = 0
        self._tree: PlainTree | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element; those outside of images count nothing, but for tracks of a video."""
        self.tracks += tag == "track"
        if tag == "image" and self._tree is None:
            self._tree = PlainTree()
        if self._tree is not None:
            self._tree.start(tag, attributes)

    def end(self, tag: str) -> None:
        """End an element."""
        if self._tree is None:
            return
        self._tree.end(tag)
        if tag == "image":
            self.done.append(self._tree.close())
            self._tree = None

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse the declaration."""
        PlainTree().doctype(name, public, system)

    def close(self) -> None:
        """End the file."""


def read_images(source: Source) -> Iterator[Found]:
    """Read the XML files of a source, image by image.

    Raises:
        ValueError: naming a file that is no whole XML, or holds no images.
    """
    for name in source.find(".xml"):
        count = 0
        with source.open(name) as file:
            for element in stream_images(file, name):
                count += 1
                yield read_image(element, f"{name}, image {count}")
        if not count:
            raise ValueError(f"{name} holds no `image` of CVAT: {EXPORT}")


def stream_images(file: IO[bytes], name: str) -> Iterator[ElementTree.Element]:
    """Give the images of a file, a part of which is held at a time."""
    tree = ImageTree()
    parser = ElementTree.XMLParser(target=tree)
    try:
        while part := file.read(PART):
            parser.feed(part)
            yield from tree.done
            tree.done.clear()
        parser.close()
    except (ElementTree.ParseError, LookupError, ValueError, AssertionError) as error:
        raise ValueError(f"{name} is not whole XML ({error}): export it again") from error
    if tree.tracks:
        raise ValueError(f"{name} holds {tree.tracks} tracks of a video: {EXPORT}")


def read_image(element: ElementTree.Element, place: str) -> Found:
    """Read what was drawn on an image; later ones, and those of a higher `z_order`, lie above."""
    image = element.get("name", "")
    undrawn = [child.tag for child in element if child.tag in UNDRAWN]
    if undrawn:
        return Refusal(image, f"{place}: a {undrawn[0]} covers no pixels: draw a polygon or a mask")
    drawn = [child for child in element if child.tag in DRAWN]
    if not drawn:
        return Untouched(image)
    try:
        drawn.sort(key=lambda child: float(child.get("z_order", "0")))
        size = int(element.get("height", "")), int(element.get("width", ""))
    except ValueError as error:
        return Refusal(image, f"{place}: {error}")
    shapes = [Shape(child.get("label", ""), partial(draw_element, child)) for child in drawn]
    return Correction(image, place, size, shapes)


def draw_element(element: ElementTree.Element, size: Size) -> Pixels:
    """Draw a shape; raises ValueError for numbers that are none."""

    def read(*names: str) -> list[float]:
        return [float(element.get(name, "nothing")) for name in names]

    turned = float(element.get("rotation", "0"))
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
        return draw_polygon([[float(number) for number in pair] for pair in pairs], size)
    if element.tag == "box":
        left, top, right, bottom = read("xtl", "ytl", "xbr", "ybr")
        box = (left, top, right - left, bottom - top)
        return draw_box(box, turned, size, about_centre=True)
    if element.tag == "ellipse":
        return draw_ellipse(read("cx", "cy", "rx", "ry"), turned, size)
    runs = [float(run) for run in element.get("rle", "").split(",")]
    return draw_runs(runs, read("left", "top", "width", "height"), size)


def read_colours(source: Source) -> Iterator[Found]:
    """Read the masks of a source whose colours a label map names.

    Raises:
        ValueError: for a label map that cannot be read.
    """
    for name in source.find("labelmap.txt"):
        labels = read_label_map(source.read(name, MOST_TEXT), name)
        root = f"{PurePosixPath(name).parent}/".removeprefix("./")
        start = f"{root}{MASKS}/"
        for file in source.find(".png"):
            if file.startswith(start):
                read = partial(read_colour_mask, source, file, labels)
                yield Correction(file[len(start) :], file, read=read)


def read_label_map(data: bytes, name: str) -> dict[int, str]:
    """Read the labels of colours, each as one number; raises ValueError for other lines."""
    labels: dict[int, str] = {}
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        parts = rest.partition(":")[0].split(",")
        if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"{name}, line {number}: expected `label:red,green,blue::`")
        colour = join_colour(np.array([[int(part) for part in parts]]))
        labels[int(colour[0])] = label
    return labels


def read_colour_mask(
    source: Source, file: str, labels: Mapping[int, str], size: Size, classes: Mapping[str, int]
) -> UInt8[np.ndarray, "H W"]:
    """Read a mask in colours; raises ValueError for a colour or a label that means no class."""
    with open_png(source, file, size) as picture:
        colours = join_colour(np.asarray(picture.convert("RGB")))
    found, places = np.unique(colours, return_inverse=True)
    if unknown := [colour for colour in found.tolist() if colour not in labels]:
        raise ValueError(f"the colour #{unknown[0]:06x} is not in labelmap.txt")
    values = [find_value(labels[colour], classes) for colour in found.tolist()]
    return np.array(values, np.uint8)[places].reshape(size)


def join_colour(colours: np.ndarray) -> np.ndarray:
    """Write colours (…, 3) as one number each.

    >>> join_colour(np.array([[1, 2, 3]])).tolist()
    [66051]
    """
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
