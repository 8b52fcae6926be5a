"""Outlines of the generated classes: polygons in the unit circle, with 255 to fill or 0 to cut."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Corners = Float[np.ndarray, "points 2"]
Outline = list[tuple[Corners, int]]

_TURN = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


def outline_circle(rng: np.random.Generator) -> Outline:
    """Outline a disc."""
    return [(0.92 * _CIRCLE, 255)]


def outline_square(rng: np.random.Generator) -> Outline:
    """Outline a nearly square box."""
    corners = 0.82 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return [(corners * [1, rng.uniform(0.85, 1)], 255)]


def outline_triangle(rng: np.random.Generator) -> Outline:
    """Outline a triangle with one stretched side."""
    angles = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    corners = 1.12 * np.stack([np.cos(angles), np.sin(angles)], 1)
    return [(corners * [rng.uniform(0.85, 1.1), 1], 255)]


def outline_star(rng: np.random.Generator) -> Outline:
    """Outline a star of five points."""
    angles = np.arange(10) * np.pi / 5
    lengths = np.where(np.arange(10) % 2 == 0, 1.15, rng.uniform(0.42, 0.5))
    return [(np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None], 255)]


def outline_ring(rng: np.random.Generator) -> Outline:
    """Outline a disc with a round hole."""
    return [(_CIRCLE, 255), (rng.uniform(0.48, 0.62) * _CIRCLE, 0)]


def outline_cross(rng: np.random.Generator) -> Outline:
    """Outline a cross of equal arms."""
    width, length = rng.uniform(0.28, 0.36), 1.05
    arm = np.array([[-width, -length], [width, -length], [width, -width]])
    quarter = np.array([[0, 1], [-1, 0]])
    return [
        (np.concatenate([arm @ np.linalg.matrix_power(quarter, turns) for turns in range(4)]), 255)
    ]


def outline_heart(rng: np.random.Generator) -> Outline:
    """Outline a heart, the point downwards."""
    x = 16 * np.sin(_TURN) ** 3
    waves = 13 * np.cos(_TURN) - 5 * np.cos(2 * _TURN) - 2 * np.cos(3 * _TURN) - np.cos(4 * _TURN)
    y = 2.5 - waves
    return [(np.stack([x, y], 1) / 16, 255)]


def outline_moon(rng: np.random.Generator) -> Outline:
    """Outline a disc with a bite, a crescent."""
    offset, size = rng.uniform(0.45, 0.6), rng.uniform(0.8, 0.88)
    return [(_CIRCLE, 255), (size * _CIRCLE + [offset, 0], 0)]


OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "circle": outline_circle,
    "square": outline_square,
    "triangle": outline_triangle,
    "star": outline_star,
    "ring": outline_ring,
    "cross": outline_cross,
    "heart": outline_heart,
    "moon": outline_moon,
}
