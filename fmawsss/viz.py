"""Pictures for people, 8-bit RGB: palette, overlays, heat maps, superpixels, captioned panels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from fmawsss.seeding import find_top_masks
from fmawsss.superpixels import Superpixels

# of the colour circle: neighbours in any numbering get colours far apart
GOLDEN_ANGLE = 0.6180339887
LEVEL_COLOURS = np.array([(247, 200, 80), (64, 176, 166), (84, 110, 190)], dtype=np.uint8)
DISTINCT = np.array([
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 110, 230), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (188, 246, 12), (250, 190, 212), (0, 128, 128), (220, 190, 255),
    (154, 99, 36), (255, 250, 200), (128, 0, 0), (170, 255, 195), (128, 128, 0), (255, 216, 177),
    (0, 0, 117),
], dtype=np.uint8)  # fmt: skip
UNCOVERED = (70, 70, 70)
PAPER = (255, 255, 255)
INK = (60, 60, 60)
GAP = 8  # between the pictures of a panel, in pixels
PANEL_SIDE = 160  # of a picture in the panels of a stage, in pixels


def make_palette(colours: int) -> UInt8[np.ndarray, "R 3"]:
    """Make PASCAL VOC's palette: the bits of the index, dealt in turn to red, green and blue.

    The highest place comes first.
    """
    index = np.arange(colours)
    palette = np.zeros((colours, 3), dtype=np.uint8)
    for bit in range(24):
        palette[:, bit % 3] |= ((index >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def choose_colours(classes: int) -> UInt8[np.ndarray, "R 3"]:
    """Choose 256 colours for pictures of masks: of up to 19 classes those that differ over photos.

    VOC's palette, which masks on disk have, gives dark reds to its first and eighth class. More
    classes keep it. `classes` do not count the background.
    """
    palette = make_palette(256)
    if classes <= len(DISTINCT):
        palette[1 : len(DISTINCT) + 1] = DISTINCT
    return palette


def enlarge_image(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Enlarge a small image by a whole factor until its long side reaches `side`.

    Maps laid over it will be smooth.
    """
    factor = -(-side // max(image.shape[:2]))
    if factor <= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def fit_image(image: UInt8[np.ndarray, "_ _ 3"], side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Scale an image so that its long side is `side`."""
    factor = side / max(image.shape[:2])
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def colour_mask(
    mask: Integer[np.ndarray, "H W"], palette: UInt8[np.ndarray, "R 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Colour a class mask; raises ValueError when the palette is too short for it."""
    if mask.size and mask.max() >= len(palette):
        raise ValueError(
            f"Mask holds {mask.max()}, the palette ends at {len(palette) - 1}: use "
            "make_palette(256)."
        )
    return palette[mask]


def overlay_mask(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Integer[np.ndarray, "h w"],
    palette: UInt8[np.ndarray, "R 3"],
    alpha: float,
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay the classes of a mask over an image, outlined in white; background stays as it is.

    A mask of another size is resized to the image.
    """
    mask = _resize_mask(mask, image)
    mixed = _mix(_remove_colour(image), colour_mask(mask, palette), np.full(mask.shape, alpha))
    mixed = np.where((mask > 0)[:, :, None], mixed, image)
    return _draw_outlines(mixed, mask)


def colour_heatmap(values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colour a map from 0 (dark blue) to its maximum (dark red); what is negative counts as 0."""
    return cv2.applyColorMap((255 * _scale_heat(values)).astype(np.uint8), cv2.COLORMAP_TURBO)[
        :, :, ::-1
    ].copy()


def overlay_heatmap(
    image: UInt8[np.ndarray, "H W 3"], values: Float[np.ndarray, "h w"], alpha: float
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a map, resized, over an image in grey, hot places in full strength `alpha`."""
    height, width = image.shape[:2]
    values = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return _mix(
        _remove_colour(image), colour_heatmap(values), alpha * (0.4 + 0.6 * _scale_heat(values))
    )


def cut_out(
    image: UInt8[np.ndarray, "_ _ 3"], mask: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Cut a region out of an image of any size, with half its size around it, dimmed."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = max(np.ptp(rows), np.ptp(columns)) // 2 + 1
    window = tuple(
        slice(max(0, places[0] - margin), places[-1] + margin + 1) for places in (rows, columns)
    )
    part, region = cv2.resize(image, mask.shape[::-1])[window], mask[window]
    dimmed = np.where(region[..., None], part, part // 3).astype(np.uint8)
    return _draw_outlines(dimmed, region.astype(np.uint8))


def colour_superpixels(superpixels: Superpixels, side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Colour every superpixel differently, small ones on top, outlined; the rest is dark grey.

    A small picture is enlarged by a whole factor until its long side reaches `side`.
    """
    return _paint_superpixels(superpixels, _spread_colours(len(superpixels)), side)


def colour_levels(superpixels: Superpixels, side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Colour superpixels by level: subparts yellow, parts teal, wholes blue."""
    return _paint_superpixels(superpixels, LEVEL_COLOURS[superpixels.level.long().numpy()], side)


def draw_panel(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], side: int
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw rows of (caption, image), the long side of every image `side`.

    An empty caption takes no room in its row.
    """
    # Scale the pictures, and measure their rows
    font = _load_font(side)
    line = round(font.size * 1.5)
    scaled = [[(caption, fit_image(image, side)) for caption, image in row] for row in rows]
    captions = [line * any(caption for caption, _ in row) for row in scaled]
    tallest = [max(image.shape[0] for _, image in row) for row in scaled]
    heights = [caption + image for caption, image in zip(captions, tallest, strict=True)]

    # An empty sheet
    columns = max(len(row) for row in scaled)
    size = GAP + columns * (side + GAP), GAP + sum(heights) + GAP * len(heights)
    panel = Image.new("RGB", size, PAPER)

    # Draw row by row
    draw, top = ImageDraw.Draw(panel), GAP
    for row, above, height in zip(scaled, captions, heights, strict=True):
        for column, (caption, image) in enumerate(row):
            left = GAP + column * (side + GAP)
            draw.text((left, top), _shorten(caption, font, side), INK, font)
            panel.paste(Image.fromarray(image), (left, top + above))
        top += height + GAP
    return np.asarray(panel).copy()


def stack_panels(panels: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Put panels below one another, as `draw_panel` would have drawn all of their rows."""
    width = max(panel.shape[1] for panel in panels)
    sheets = []
    for number, panel in enumerate(panels):
        sheet = np.full((len(panel), width, 3), PAPER, dtype=np.uint8)
        sheet[:, : panel.shape[1]] = panel
        sheets.append(sheet[GAP if number else 0 :])
    return np.concatenate(sheets)


def draw_legend(
    names: Sequence[str], palette: UInt8[np.ndarray, "R 3"], width: int
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the colour and name of each class, as many in a line as `width` holds.

    `names` are ordered by index, the background's first.
    """
    # Place the names line by line
    font = _load_font(200)
    square, line = round(font.size), round(font.size * 1.8)
    places, left, top = [], GAP, GAP
    for name in names:
        length = square + GAP // 2 + round(font.getlength(name)) + 2 * GAP
        if left > GAP and left + length > width:
            left, top = GAP, top + line
        places.append((left, top))
        left += length

    # Draw them
    legend = Image.new("RGB", (width, top + line), PAPER)
    draw = ImageDraw.Draw(legend)
    for (left, top), name, colour in zip(places, names, palette, strict=False):
        draw.rectangle((left, top, left + square, top + square), tuple(colour.tolist()), INK)
        draw.text((left + square + GAP // 2 + 2, top - 1), name, INK, font)
    return np.asarray(legend).copy()


def _mix(image: np.ndarray, colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    weight = weight[:, :, None].astype(np.float32)
    return np.rint(image * (1 - weight) + colours * weight).astype(np.uint8)


def _remove_colour(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _resize_mask(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    rows, columns = (
        (np.arange(new) + 0.5) * old / new
        for new, old in zip((height, width), mask.shape, strict=True)
    )
    return mask[np.ix_(rows.astype(int), columns.astype(int))]


def _draw_outlines(picture: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Draw a white line on the borders between regions, wider in large pictures."""
    square, reach = np.ones((3, 3), dtype=np.uint8), 1 + max(regions.shape) // 700
    values = regions.astype(np.float32)
    borders = cv2.dilate(values, square, iterations=reach) != cv2.erode(
        values, square, iterations=reach
    )
    return _mix(picture, np.full_like(picture, 255), 0.8 * borders)


def _scale_heat(values: np.ndarray) -> np.ndarray:
    """Scale to 0…1 by the maximum; all 0 where nothing is positive."""
    positive = np.maximum(values, 0).astype(np.float32)
    return positive / max(positive.max(initial=0), np.finfo(np.float32).tiny)


def _spread_colours(number: int) -> np.ndarray:
    """Pick as many colours as asked for, far apart in hue and, in turn, in brightness."""
    index = np.arange(number)
    hue = (index * GOLDEN_ANGLE) % 1 * 180
    saturation, value = 110 + index % 3 * 40, 245 - index // 3 % 3 * 35
    colours = np.stack([hue, saturation, value], axis=1).astype(np.uint8)
    if number == 0:
        return np.zeros((0, 3), dtype=np.uint8)
    return cv2.cvtColor(colours[None], cv2.COLOR_HSV2RGB)[0]


def _paint_superpixels(superpixels: Superpixels, colours: np.ndarray, side: int) -> np.ndarray:
    """Paint superpixels in their colours, by descending area."""
    order = superpixels.area.argsort(descending=True, stable=True)
    top = find_top_masks(order, superpixels, torch.device("cpu")).numpy()
    factor = max(1, -(-side // max(top.shape)))
    top = top.repeat(factor, axis=0).repeat(factor, axis=1)
    return _draw_outlines(np.concatenate([colours, [UNCOVERED]]).astype(np.uint8)[top], top)


def _load_font(side: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=min(max(11, side // 16), 20))
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _shorten(caption: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a caption that is wider than its image."""
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + "…") > width:
        caption = caption[:-1]
    return caption + "…"
