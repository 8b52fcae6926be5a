"""Label Studio's labelling config, and masks as the regions that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from jaxtyping import Bool

from datamodules.labels import PlainTree
from fmawsss.files.polygons import Polygon, trace_polygons
from fmawsss.files.texts import compose, name_first
from fmawsss.networks.segmenter import Segmentation
from stages.exports.labelstudio import describe_brush
from stages.exports.regions import split_classes

Pixels = Bool[np.ndarray, "H W"]
TOLERANCE = 0.001  # of the longer side, that a simplified outline may be off
CORNERS = 3  # of a polygon, at least


@dataclass(frozen=True)
class Labelling:
    """What annotators draw with.

    tag: `brushlabels` or `polygonlabels`. source, target: names of this tag and of the image's.
    key: of the image in a task's data. labels: the label of each class, by its value in masks.
    """

    tag: str
    source: str
    target: str
    key: str
    labels: Mapping[int, str]

    def describe(self, found: Segmentation) -> dict[str, Any]:
        """Describe a mask as a prediction: one region for each class, or one for each polygon."""
        result = []
        for value, region in split_classes(found.mask, len(found.classes) - 1):
            if value not in self.labels:
                continue  # `read_labelling` said which classes have no label
            sure = round(float(found.confidence[region].mean(dtype=np.float64)), 4)
            shapes = list(REGIONS[self.tag](f"fmawsss-{value}", self.labels[value], region))
            named = {"from_name": self.source, "to_name": self.target, "score": sure}
            result += [{**shape, **named} for shape in shapes]
        score = round(float(found.confidence.mean(dtype=np.float64)), 4)
        return {"result": result, "score": score}


def draw_brush(name: str, label: str, region: Pixels) -> Iterator[dict[str, Any]]:
    """Describe a region as one brush."""
    yield describe_brush(name, label, region)


def draw_polygons(name: str, label: str, region: Pixels) -> Iterator[dict[str, Any]]:
    """Describe a region as polygons of few corners; coordinates are percents of the image."""
    height, width = region.shape
    for number, polygon in enumerate(trace_polygons(region)):
        points = simplify(polygon, TOLERANCE * max(region.shape)) * 100 / [width, height]
        yield {
            "id": f"{name}-{number}",
            "type": "polygonlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "points": points.round(4).tolist(),
                "closed": True,
                "polygonlabels": [label],
            },
        }


# The tags of a config that can be drawn with, and how
REGIONS: Mapping[str, Callable[[str, str, Pixels], Iterator[dict[str, Any]]]] = {
    "brushlabels": draw_brush,
    "polygonlabels": draw_polygons,
}


def simplify(polygon: Polygon, tolerance: float) -> Polygon:
    """Leave out corners that move the outline by less than a tolerance; small ones stay whole."""
    few = cv2.approxPolyDP(polygon.astype(np.int32)[:, None], tolerance, closed=True)[:, 0]
    return few if len(few) >= CORNERS else polygon


def read_labelling(config: object, classes: tuple[str, ...]) -> Labelling:
    """Read a labelling config, an XML text; `classes` are the model's, the background first.

    Raises:
        ValueError: for one without labels to draw with, and where no label is a class.
    """
    if not isinstance(config, str):
        raise ValueError("no labelling config: give the project one with BrushLabels")
    try:
        root = ElementTree.fromstring(config, ElementTree.XMLParser(target=PlainTree()))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"the labelling config is no plain XML ({error})") from error

    # The first tag that we can draw with, and its image
    tags = [element for element in root.iter() if element.tag.lower() in REGIONS]
    if not tags:
        raise ValueError("the labelling config has neither BrushLabels nor PolygonLabels: add one")
    tag = tags[0]
    target = tag.get("toName", "")
    images = [element for element in root.iter("Image") if element.get("name") == target]
    value = images[0].get("value", "") if images else ""
    if not value.startswith("$"):
        raise ValueError(
            f"the labelling config has no <Image name={target[:50]!r} value='$…'> that its "
            f"{tag.tag} belong to"
        )

    # Its labels, by class
    values = {compose(name): number for number, name in enumerate(classes) if number}
    labels: dict[int, str] = {}
    for label in tag.iter("Label"):
        known = (values.get(compose(label.get(key, ""))) for key in ("alias", "value"))
        labels |= {number: label.get("value", "") for number in known if number}
    if not labels:
        raise ValueError(
            f"no label of the labelling config is a class of the model, {name_first(classes[1:])}: "
            "name them alike, or give a label the class as its alias"
        )
    return Labelling(tag.tag.lower(), tag.get("name", ""), target, value[1:], labels)
