"""Colours and textures of the generated images; pixel values are floats in 0..255, RGB."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

SIZE = 112
# colour name -> inclusive ranges of hue (0..179), saturation and value (0..255), as OpenCV counts
# them
COLOURS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((0, 4), (190, 255), (170, 255)),
    "orange": ((9, 15), (200, 255), (210, 255)),
    "yellow": ((25, 31), (190, 255), (210, 255)),
    "green": ((50, 70), (150, 255), (110, 220)),
    "cyan": ((86, 94), (150, 255), (180, 255)),
    "blue": ((108, 122), (170, 255), (130, 255)),
    "purple": ((132, 142), (130, 230), (110, 210)),
    "pink": ((158, 170), (70, 150), (220, 255)),
    "brown": ((8, 14), (140, 200), (80, 130)),
    "white": ((0, 179), (0, 18), (230, 255)),
    "gray": ((0, 179), (0, 20), (100, 160)),
    "black": ((0, 179), (0, 60), (10, 45)),
}
COLOUR_NAMES = tuple(COLOURS)
TEXTURES = ("solid", "gradient", "striped", "dotted", "checkered", "grainy", "wavy", "cloudy")

Colour = Float32[np.ndarray, "3"]
Field = Float32[np.ndarray, "H W"]
FloatPicture = Float32[np.ndarray, "H W 3"]

ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def draw_colour(rng: np.random.Generator, name: str) -> Colour:
    """Draw one colour out of the range that a colour name covers."""
    hsv = [[[rng.integers(low, high + 1) for low, high in COLOURS[name]]]]
    return cv2.cvtColor(np.array(hsv, np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def draw_any_colour(rng: np.random.Generator) -> Colour:
    """Draw a colour of any name."""
    return draw_colour(rng, str(rng.choice(COLOUR_NAMES)))


def draw_noise(rng: np.random.Generator, cells: int, size: int = SIZE) -> Field:
    """Draw smooth noise with `cells` x `cells` independent values, between about 0 and 1."""
    values = rng.random((cells, cells), dtype=np.float32)
    return cv2.resize(values, (size, size), interpolation=cv2.INTER_CUBIC)  # overshoots a little


def fill_texture(
    rng: np.random.Generator, texture: str, first: Colour, second: Colour
) -> FloatPicture:
    """Fill a picture with `first` and `second`, mixed by a texture at a random angle and scale."""
    if texture in ("solid", "plain"):
        return np.broadcast_to(first, (SIZE, SIZE, 3))
    mixture = _FIELDS[texture](rng, *_turn_axes(rng))[..., None]
    return first * (1 - mixture) + second * mixture


def shade_colour(rng: np.random.Generator, colour: Colour) -> Colour:
    """Draw the second colour of a texture: darker, or lighter where the first is dark already."""
    if colour.mean() > 70:
        shaded = colour * rng.uniform(0.35, 0.6)
    else:
        shaded = colour + rng.uniform(60, 110)
    return np.clip(shaded, 0, 255).astype(np.float32)


def _turn_axes(rng: np.random.Generator) -> tuple[Field, Field, float]:
    """Draw two perpendicular coordinates (pixels) and a texture's frequency (radians per pixel)."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 16)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return COLUMNS * cosine + ROWS * sine, ROWS * cosine - COLUMNS * sine, 2 * np.pi / period


def _draw_gradient(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    return (u - u.min()) / (u.max() - u.min())


def _draw_stripes(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    return (np.sin(u * frequency) > rng.uniform(-0.4, 0.4)).astype(np.float32)


def _draw_checks(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    return (np.sin(u * frequency / 1.6) * np.sin(v * frequency / 1.6) > 0).astype(np.float32)


def _draw_dots(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    return (np.cos(u * frequency) + np.cos(v * frequency) > rng.uniform(0.7, 1.2)).astype(
        np.float32
    )


def _draw_grain(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    if rng.random() < 0.5:
        return rng.random((SIZE, SIZE), dtype=np.float32)
    return np.clip(draw_noise(rng, 56), 0, 1)


def _draw_clouds(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    coarse, fine = (
        draw_noise(rng, int(rng.integers(3, 7))),
        draw_noise(rng, int(rng.integers(8, 16))),
    )
    return np.clip(0.6 * coarse + 0.4 * fine, 0, 1)


def _draw_waves(rng: np.random.Generator, u: Field, v: Field, frequency: float) -> Field:
    return 0.5 + 0.5 * np.sin(u * frequency + 2.2 * np.sin(v * frequency / 2.5))


_FIELDS: dict[str, Callable[[np.random.Generator, Field, Field, float], Field]] = {
    "gradient": _draw_gradient,
    "striped": _draw_stripes,
    "checkered": _draw_checks,
    "dotted": _draw_dots,
    "grainy": _draw_grain,
    "cloudy": _draw_clouds,
    "wavy": _draw_waves,
}
