"""One image with everything that the stages made of it, small: for report and dashboards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from fmawsss.files.images import read_image
from fmawsss.files.png import read_mask
from fmawsss.files.storage import read_cams, read_superpixels
from fmawsss.resizing import Picture
from fmawsss.viz import (
    choose_colours,
    colour_superpixels,
    fit_image,
    overlay_heatmap,
    overlay_mask,
)
from stages.reports.report import RunFolder, StageNote

OVERVIEW_SIDE = 192  # of a picture, in pixels
NAMES = {
    "coarse": "coarse seed",
    "coarse_memory": "coarse seed, memory",
    "fine": "fine seed",
    "fine_memory": "fine seed, memory",
    "masks": "prediction",
}  # of products


@dataclass(frozen=True)
class Overview:
    """An image with pictures of superpixels and CAMs, and masks, in the order of the method.

    All have one size.
    """

    name: str
    image: Picture
    pictures: dict[str, Picture]
    masks: dict[str, UInt8[np.ndarray, "H W"]]
    palette: UInt8[np.ndarray, "R 3"]

    def draw(self) -> dict[str, Picture]:
        """Draw everything, the masks laid over the image."""
        laid = {
            name: overlay_mask(self.image, mask, self.palette, alpha=0.6)
            for name, mask in self.masks.items()
        }
        return {"image": self.image, **self.pictures, **laid}


def gather_overview(folder: RunFolder, line: Mapping[str, Any]) -> Overview | None:
    """Read what there is of an image that a journal names; None when the image is gone."""
    path, name = Path(line.get("image") or ""), line["name"]
    if not path.is_file():
        return None
    image = fit_image(read_image(path), OVERVIEW_SIDE)
    pictures = draw_superpixels(folder, name) | draw_cams(folder, line, image)

    # Masks of every stage, then the ground truth
    masks = {}
    for stage in folder.lineage:
        mask = stage.product / f"{name}.png"
        if mask.is_file():
            caption = NAMES.get(stage.product.name, stage.product.name)
            masks[caption] = fit_mask(read_mask(mask), image)
    if line.get("truth") and Path(line["truth"]).is_file():
        masks["truth"] = fit_mask(read_mask(Path(line["truth"])), image)
    return Overview(name, image, pictures, masks, choose_palette(folder))


def list_classes(folder: RunFolder) -> Sequence[str]:
    """List the classes of the stage that knows most, the background first."""
    return max((stage.classes for stage in folder.stages), key=len, default=())


def choose_palette(folder: RunFolder) -> UInt8[np.ndarray, "R 3"]:
    """Choose the colours of the classes."""
    return choose_colours(max(len(list_classes(folder)) - 1, 0))


def draw_superpixels(folder: RunFolder, name: str) -> dict[str, Picture]:
    """Draw the superpixels of an image, if there are any."""
    file = find_superpixels(folder, name)
    if file is None:
        return {}
    picture = colour_superpixels(read_superpixels(file), OVERVIEW_SIDE)
    return {"superpixels": fit_image(picture, OVERVIEW_SIDE)}


def find_superpixels(folder: RunFolder, name: str) -> Path | None:
    """Find the superpixels of an image, in this folder or where a stage had them."""
    sources = [stage.sources.get("superpixels") for stage in folder.lineage]
    places = [folder.path / "superpixels", *filter(None, sources)]
    files = (place / f"{name}.npz" for place in places)
    return next((file for file in files if file.is_file()), None)


def draw_cams(folder: RunFolder, line: Mapping[str, Any], image: Picture) -> dict[str, Picture]:
    """Draw CAM and refined CAM of the first present class by every stage, where they were kept.

    `callbacks=cams` keeps the CAMs of all images, `VisualLogger` both kinds of those that it shows.
    """
    drawn, file = {}, f"{line['name']}.npz"
    for stage in folder.stages:
        # Where the CAMs of this stage may lie
        product = stage.product.name
        pictured = folder.path / "pictures" / product
        places = [("CAM", folder.path / "cams" / product / file)]
        places += [(kind, pictured / kind / file) for kind in ("CAM", "refined CAM")]

        # Draw those that are there
        for kind, path in places:
            cams = read_cams(path) if path.is_file() else None
            if cams is not None and len(cams.classes):
                caption = f"{kind} {stage.classes[int(cams.classes[0]) + 1]} ({stage.name})"
                heat = cams.maps[0].clamp_min(0).numpy()
                drawn[caption] = overlay_heatmap(image, heat, alpha=0.7)
    return drawn


def fit_mask(mask: UInt8[np.ndarray, "A B"], image: Picture) -> UInt8[np.ndarray, "H W"]:
    """Scale a mask to the size of a picture, by nearest neighbours."""
    height, width = image.shape[:2]
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def name_classes(stage: StageNote, values: Iterable[int]) -> list[str]:
    """Name the classes of mask values."""
    return [stage.classes[value] for value in values if value < len(stage.classes)]
