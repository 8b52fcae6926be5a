"""One image with everything that the stages made of it, small: for the report and for dashboards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from fmawsss.files.images import read_image
from fmawsss.files.storage import read_cams, read_mask, read_superpixels
from fmawsss.viz import colour_superpixels, make_palette, overlay_heatmap, overlay_mask
from stages.reports.report import RunFolder, StageNote

SIDE = 192  # of a picture, in pixels
NAMES = {
    "coarse": "coarse seed",
    "fine": "fine seed",
    "masks": "prediction",
}  # of products, for people
PALETTE = make_palette(256)

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Scene:
    """An image, pictures of its superpixels and CAMs, and class masks, in the order of the method;
    all of one size.
    """

    name: str
    image: Picture
    pictures: dict[str, Picture]
    masks: dict[str, UInt8[np.ndarray, "H W"]]

    def draw(self) -> dict[str, Picture]:
        """Draw everything, the masks laid over the image."""
        laid = {
            name: overlay_mask(self.image, mask, PALETTE, alpha=0.6)
            for name, mask in self.masks.items()
        }
        return {"image": self.image, **self.pictures, **laid}


def gather_scene(folder: RunFolder, line: Mapping[str, Any]) -> Scene | None:
    """Read what there is of an image that a journal names; None when the image itself is not there
    any more.
    """
    path, name = Path(line.get("image") or ""), line["name"]
    if not path.is_file():
        return None
    image = fit_picture(read_image(path))
    pictures, masks = {}, {}
    sources = [
        stage.sources["superpixels"] for stage in folder.lineage if "superpixels" in stage.sources
    ]
    for superpixels in (place / f"{name}.npz" for place in (folder.path / "superpixels", *sources)):
        if "superpixels" not in pictures and superpixels.is_file():
            pictures["superpixels"] = fit_picture(
                colour_superpixels(read_superpixels(superpixels), SIDE)
            )
    pictures |= draw_cams(folder, line, image)
    for stage in folder.lineage:
        mask = stage.product / f"{name}.png"
        if mask.is_file():
            masks[NAMES.get(stage.product.name, stage.product.name)] = fit_mask(
                read_mask(mask), image
            )
    if line.get("truth") and Path(line["truth"]).is_file():
        masks["truth"] = fit_mask(read_mask(Path(line["truth"])), image)
    return Scene(name, image, pictures, masks)


def draw_cams(folder: RunFolder, line: Mapping[str, Any], image: Picture) -> dict[str, Picture]:
    """Draw CAM and refined CAM of the first present class by every stage, where they were kept.

    `callbacks=cams` keeps the CAMs of all images, `VisualLogger` both kinds of those that it shows.
    """
    drawn, file = {}, f"{line['name']}.npz"
    for stage in folder.stages:
        product = stage.product.name
        kept = {
            kind: folder.path / "pictures" / product / kind / file
            for kind in ("CAM", "refined CAM")
        }
        for kind, path in [("CAM", folder.path / "cams" / product / file), *kept.items()]:
            cams = read_cams(path) if path.is_file() else None
            if cams is not None and len(cams.classes):
                caption = f"{kind} {stage.classes[int(cams.classes[0]) + 1]} ({stage.name})"
                drawn[caption] = overlay_heatmap(
                    image, cams.maps[0].clamp_min(0).numpy(), alpha=0.7
                )
    return drawn


def fit_picture(picture: Picture) -> Picture:
    """Scale a picture so that its long side is `SIDE`."""
    factor = SIDE / max(picture.shape[:2])
    height, width = (max(1, round(length * factor)) for length in picture.shape[:2])
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )


def fit_mask(mask: UInt8[np.ndarray, "A B"], image: Picture) -> UInt8[np.ndarray, "H W"]:
    """Scale a mask to the size of a picture, by nearest neighbours."""
    height, width = image.shape[:2]
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def name_classes(stage: StageNote, values: Iterable[int]) -> list[str]:
    """Name the classes of mask values."""
    return [stage.classes[value] for value in values if value < len(stage.classes)]
