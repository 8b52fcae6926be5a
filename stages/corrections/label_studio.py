"""Label Studio's export as JSON: brushes, polygons, rectangles and ellipses of each task."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fmawsss.files.json_lists import open_json, stream_list
from fmawsss.resizing import Size
from stages.corrections.archives import Source
from stages.corrections.names import read_address
from stages.corrections.records import Correction, Found, Refusal, Shape, Untouched
from stages.corrections.shapes import Pixels, decode_brush, draw_box, draw_ellipse, draw_polygon

PERCENT = 100.0
DRAWN = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
SAID = ("choices", "textarea", "rating", "number", "taxonomy", "relation", "datetime", "pairwise")
EXPORT = "export the project as JSON"


def read_tasks(source: Source) -> Iterator[Found]:
    """Read the tasks of a source, each with what people drew; predictions count nothing.

    Raises:
        ValueError: naming a file that is no whole list of tasks.
    """
    for name in source.find(".json"):
        with open_json(source.place(name)) as file:
            try:
                for number, entry in enumerate(stream_list(file), 1):
                    yield from read_task(entry.value, f"{name}, task {number}")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{name} is no whole list of tasks ({error}): {EXPORT}") from error


def read_task(task: Any, place: str) -> Iterator[Found]:
    """Read a task: each annotation that was not cancelled is a correction of its image."""
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        yield Refusal(reprlib.repr(task), f"{place}: it has no `data`: {EXPORT} (not JSON-MIN)")
        return
    image = find_address(task["data"])
    annotations = task.get("annotations")
    given = annotations if isinstance(annotations, list) else []
    taken = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    if not taken:
        yield Untouched(image)
    for annotation in taken:
        try:
            yield read_annotation(image, place, annotation.get("result"))
        except (ValueError, TypeError, KeyError) as error:
            yield Refusal(image, f"{place}: {error}")


def find_address(data: Mapping[str, Any]) -> str:
    """Find the address of a task's image: `image`, else the first field that names a picture."""
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    pictures = [text for text in texts if re.search(r"\.\w{3,5}(\?|$)", text)]
    return read_address(next(iter([*pictures, *texts]), ""))


def read_annotation(image: str, place: str, results: Any) -> Correction:
    """Read what one person drew, in this order; raises ValueError for what covers no pixels."""
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise ValueError("its annotation has no list `result`")
    shapes, sizes = [], set()
    for result in results:
        kind = result.get("type")
        if kind in SAID:
            continue
        if kind not in DRAWN:
            raise ValueError(f"a {reprlib.repr(kind)} is not read, expected {', '.join(DRAWN)}")
        if result.get("image_rotation"):
            raise ValueError("its image was turned in Label Studio: turn it back")
        sizes.add((result.get("original_height"), result.get("original_width")))
        value = result["value"]
        labels = value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1:
            raise ValueError(f"a region has the labels {reprlib.repr(labels)}, expected one")
        shapes.append(Shape(str(labels[0]), partial(DRAW[kind], value)))
    if len(sizes) > 1 or not all(type(side) is int for size in sizes for side in size):
        raise ValueError(f"its regions are of images of the sizes {reprlib.repr(sizes)}")
    return Correction(image, place, next(iter(sizes), None), shapes)


def draw_brush(value: Mapping[str, Any], size: Size) -> Pixels:
    """Draw a brush."""
    if value.get("format") != "rle" or not isinstance(value.get("rle"), list):
        raise ValueError("a brush has run lengths, format `rle`")
    return decode_brush(value["rle"], size)


def draw_outline(value: Mapping[str, Any], size: Size) -> Pixels:
    """Draw a polygon, whose corners are percents of the image."""
    points = value.get("points")
    if not isinstance(points, list):
        raise ValueError("a polygon has a list of points")
    return draw_polygon([scale(point, size) for point in points], size)


def draw_rectangle(value: Mapping[str, Any], size: Size) -> Pixels:
    """Draw a rectangle, which is turned about its upper left corner."""
    corner = scale([value.get("x"), value.get("y")], size)
    sides = scale([value.get("width"), value.get("height")], size)
    return draw_box([*corner, *sides], value.get("rotation") or 0, size, about_centre=False)


def draw_oval(value: Mapping[str, Any], size: Size) -> Pixels:
    """Draw an ellipse."""
    centre = scale([value.get("x"), value.get("y")], size)
    radii = scale([value.get("radiusX"), value.get("radiusY")], size)
    return draw_ellipse([*centre, *radii], value.get("rotation") or 0, size)


def scale(pair: Sequence[Any], size: Size) -> list[float]:
    """Turn percents of width and height into pixels; raises ValueError for what is no number."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"{reprlib.repr(pair)} is no pair of numbers")
    if not all(type(number) in (int, float) for number in pair):
        raise ValueError(f"{reprlib.repr(pair)} is no pair of numbers")
    return [pair[0] * size[1] / PERCENT, pair[1] * size[0] / PERCENT]


DRAW = dict(zip(DRAWN, (draw_brush, draw_outline, draw_rectangle, draw_oval), strict=True))
