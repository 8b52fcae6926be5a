"""The canvas of a generated image, and what lies behind its objects."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from fmawsss.tiny.textures import (
    COLOUR_NAMES,
    SIZE,
    Colour,
    FloatPicture,
    draw_any_colour,
    draw_colour,
    draw_noise,
    fill_texture,
)

BACKGROUNDS = ("plain", "gradient", "striped", "checkered", "dotted", "grainy", "cloudy", "wavy")


@dataclass
class Canvas:
    """A scene while it is painted.

    image: in 0..255. grounds: colours that an object must stand out from.
    """

    image: FloatPicture
    semantic: UInt8[np.ndarray, "H W"]
    instance: UInt8[np.ndarray, "H W"]
    part: UInt8[np.ndarray, "H W"]
    grounds: list[Colour]
    stuff: list[str]

    def mark_object(
        self, visible: Bool[np.ndarray, "H W"], class_index: int, instance: int
    ) -> None:
        """Enter an object into the masks, as one part."""
        self.semantic[visible] = class_index + 1
        self.instance[visible] = instance
        self.mark_part(visible)

    def mark_part(self, region: Bool[np.ndarray, "H W"]) -> None:
        """Give a region a part number of its own."""
        self.part[region] = int(self.part.max()) + 1


def paint_ground(rng: np.random.Generator, background: str) -> Canvas:
    """Fill the canvas with two muted colours in the background's texture."""
    # Two muted colours
    first_name, second_name = rng.choice(COLOUR_NAMES, 2, replace=False)
    first = draw_colour(rng, first_name)
    second = draw_colour(rng, second_name)
    if rng.random() < 0.5:
        second = np.clip(first + rng.uniform(-70, 70), 0, 255)
    mute, gray = rng.uniform(0, 0.5), rng.uniform(60, 200)
    first, second = (colour * (1 - mute) + gray * mute for colour in (first, second))
    if background not in ("plain", "gradient"):
        second = first + (second - first) * rng.uniform(0.35, 0.9)

    # In their texture
    image = np.array(fill_texture(rng, background, first, second), np.float32, order="C")
    semantic, instance, part = np.zeros((3, SIZE, SIZE), np.uint8)
    return Canvas(image, semantic, instance, part, grounds=[first, second], stuff=[])


def paint_patches(rng: np.random.Generator, canvas: Canvas) -> None:
    """Cover the high places of a smooth noise with another texture."""
    height = draw_noise(rng, int(rng.integers(3, 6)))
    region = height > np.quantile(height, rng.uniform(0.65, 0.85))
    other = np.clip(canvas.grounds[0] + rng.uniform(-60, 60), 0, 255)
    filling = fill_texture(rng, str(rng.choice(BACKGROUNDS)), draw_any_colour(rng), other)
    canvas.image[region] = filling[region]
    canvas.mark_part(region)


def paint_lines(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw some bent lines of any colours."""
    for _ in range(rng.integers(2, 6)):
        steps = [rng.uniform(0, SIZE, (1, 2)), rng.normal(0, 22, (rng.integers(2, 5), 2))]
        points = np.round(np.cumsum(np.concatenate(steps), 0)).astype(np.int32)
        thickness = int(rng.integers(1, 4))
        cv2.polylines(
            canvas.image, [points], False, draw_any_colour(rng).tolist(), thickness, cv2.LINE_AA
        )


def paint_specks(rng: np.random.Generator, canvas: Canvas) -> None:
    """Scatter small discs of any colours."""
    for _ in range(rng.integers(8, 25)):
        centre, radius = rng.integers(SIZE, size=2).tolist(), int(rng.integers(1, 3))
        cv2.circle(canvas.image, centre, radius, draw_any_colour(rng).tolist(), -1, cv2.LINE_AA)
