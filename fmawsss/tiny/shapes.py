"""Generated images with exact masks: textured shapes that hide each other on textured grounds.

A class typically wears one material (colour and texture), as natural categories do; how often is
`p_material`. All randomness comes from the generator that is passed. Coordinates are pixels, x to
the right and y downwards.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from fmawsss.tiny.grounds import (
    BACKGROUNDS,
    Canvas,
    paint_ground,
    paint_lines,
    paint_patches,
    paint_specks,
)
from fmawsss.tiny.outlines import OUTLINES, Outline
from fmawsss.tiny.textures import (
    COLOUR_NAMES,
    COLUMNS,
    ROWS,
    SIZE,
    TEXTURES,
    Colour,
    FloatPicture,
    draw_any_colour,
    draw_colour,
    fill_texture,
    shade_colour,
)

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "moon")
STUFF = ("lines", "specks", "patches", "shadows")
# class name -> the colours and the texture that it typically wears
MATERIALS: dict[str, tuple[tuple[str, ...], str]] = {
    "circle": (("orange", "red"), "dotted"),
    "square": (("brown", "gray"), "checkered"),
    "triangle": (("green",), "striped"),
    "star": (("yellow",), "gradient"),
    "ring": (("blue",), "wavy"),
    "cross": (("white", "red"), "solid"),
    "heart": (("pink", "purple"), "grainy"),
    "moon": (("cyan", "gray"), "cloudy"),
}
MIN_PIXELS = 40


@dataclass(frozen=True)
class SceneObject:
    """One shape: index into CLASS_NAMES, words that describe it, and its circle in pixels."""

    class_index: int
    colour: str
    texture: str  # one of TEXTURES, or "twotone" or "marked"
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Scene:
    """An image and all that is true of it.

    Instance `i + 1` is `objects[i]`; later objects lie in front. Parts are regions of patchwork,
    bodies of objects, and second colours of objects.
    """

    image: UInt8[np.ndarray, "H W 3"]  # RGB
    semantic: UInt8[np.ndarray, "H W"]  # 0 background, class index + 1
    instance: UInt8[np.ndarray, "H W"]  # 0 background
    part: UInt8[np.ndarray, "H W"]  # 0 ground
    objects: tuple[SceneObject, ...]
    background: str  # one of BACKGROUNDS
    stuff: tuple[str, ...]  # some of STUFF


def draw_scene(rng: np.random.Generator, p_material: float = 0.92) -> Scene:
    """Draw an image of 112 x 112 pixels with one to four objects.

    At least 40 pixels of each object are visible; a scene that hides more is drawn again.

    p_material: probability, for colour and for texture apart, that an object wears what its class
        typically wears.
    """
    while True:
        scene = _draw_any_scene(rng, p_material)
        visible = np.bincount(scene.instance.ravel(), minlength=len(scene.objects) + 1)[1:]
        if visible.min() >= MIN_PIXELS:
            return scene


def present_classes(scene: Scene, min_pixels: int = MIN_PIXELS) -> list[int]:
    """List the class indices that cover at least `min_pixels` pixels, in ascending order."""
    counts = np.bincount(scene.semantic.ravel(), minlength=len(CLASS_NAMES) + 1)[1:]
    return np.flatnonzero(counts >= min_pixels).tolist()


def _draw_any_scene(rng: np.random.Generator, p_material: float) -> Scene:
    background = str(rng.choice(BACKGROUNDS))

    # The ground
    canvas = paint_ground(rng, background)
    for stuff, probability, paint in (
        ("patches", 0.35, paint_patches),
        ("lines", 0.3, paint_lines),
        ("specks", 0.3, paint_specks),
    ):
        if rng.random() < probability:
            paint(rng, canvas)
            canvas.stuff.append(stuff)

    # An object must differ from both ground colours and from the mean of the finished ground.
    canvas.grounds.append(canvas.image[::4, ::4].reshape(-1, 3).mean(0))
    if rng.random() < 0.3:
        canvas.stuff.append("shadows")

    # The objects, one over the other
    objects: list[SceneObject] = []
    count = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.22, 0.13]))
    for _ in range(count):
        circle = _place_circle(rng, objects, (13.0, 30.0) if count > 2 else (15.0, 36.0))
        if circle is not None:
            objects.append(_paint_object(rng, canvas, len(objects) + 1, *circle, p_material))

    masks = (canvas.semantic, canvas.instance, canvas.part)
    image = _expose(rng, canvas.image)
    return Scene(image, *masks, tuple(objects), background, tuple(canvas.stuff))


def _place_circle(
    rng: np.random.Generator, objects: list[SceneObject], radii: tuple[float, float]
) -> tuple[tuple[float, float], float] | None:
    """Draw a circle that overlaps the objects only a little; None after 12 vain trials."""
    for _ in range(12):
        radius = rng.uniform(*radii)
        x, y = rng.uniform(0.75 * radius, SIZE - 0.75 * radius, 2).tolist()
        if all(
            np.hypot(x - o.centre[0], y - o.centre[1]) > 0.8 * (radius + o.radius) for o in objects
        ):
            return (x, y), radius
    return None


def _paint_object(
    rng: np.random.Generator,
    canvas: Canvas,
    instance: int,
    centre: tuple[float, float],
    radius: float,
    p_material: float,
) -> SceneObject:
    """Paint one shape with its shadow, filling and outline, and enter it into the masks."""
    # Its outline, colour and shadow
    class_index = int(rng.integers(len(CLASS_NAMES)))
    outline = OUTLINES[CLASS_NAMES[class_index]](rng)
    coverage = _rasterize(outline, centre, radius, rng.uniform(0, 2 * np.pi))
    visible = coverage > 127
    colours, typical = MATERIALS[CLASS_NAMES[class_index]]
    name, colour = _choose_colour(rng, canvas.grounds, colours, p_material)
    _cast_shadow(rng, canvas, coverage)

    # Its filling: one material, or two colours
    kind, second, region = rng.random(), draw_any_colour(rng), None
    if kind < 0.78:
        texture = typical if rng.random() < p_material else str(rng.choice(TEXTURES))
        filling = fill_texture(rng, texture, colour, shade_colour(rng, colour))
    else:
        texture, region = _draw_region(rng, kind < 0.9, centre, radius)
        filling = np.where(region[..., None], second, colour)
    alpha = coverage[..., None].astype(np.float32) / 255
    canvas.image += (filling - canvas.image) * alpha

    # Its masks, and sometimes a line around it
    canvas.mark_object(visible, class_index, instance)
    if region is not None:
        canvas.mark_part(visible & region)
    _outline(rng, canvas, visible, colour)
    return SceneObject(class_index, name, texture, centre, radius)


def _outline(
    rng: np.random.Generator, canvas: Canvas, visible: Bool[np.ndarray, "H W"], colour: Colour
) -> None:
    """Draw a darker line around an object, in some cases."""
    if rng.random() < 0.15:
        edges, _ = cv2.findContours(visible.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas.image, edges, -1, (colour * 0.4).tolist(), 1)


def _choose_colour(
    rng: np.random.Generator, grounds: list[Colour], typical: tuple[str, ...], p_material: float
) -> tuple[str, Colour]:
    """Draw a colour that stands out from the grounds, at the sixth trial any.

    It does when its channels differ by more than 110 in sum.
    """
    for _ in range(6):
        name = str(rng.choice(typical if rng.random() < p_material else COLOUR_NAMES))
        colour = draw_colour(rng, name)
        if min(np.abs(colour - ground).sum() for ground in grounds) > 110:
            break
    return name, colour


def _cast_shadow(
    rng: np.random.Generator, canvas: Canvas, coverage: UInt8[np.ndarray, "H W"]
) -> None:
    """Darken what lies behind an object, in a scene with shadows."""
    if "shadows" not in canvas.stuff:
        return
    shift = np.array([[1, 0, rng.uniform(3, 6)], [0, 1, rng.uniform(3, 6)]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(coverage, shift, (SIZE, SIZE)), (5, 5), 0)
    canvas.image *= 1 - 0.5 * (shadow.astype(np.float32) / 255)[..., None]


def _rasterize(
    rings: Outline, centre: tuple[float, float], radius: float, angle: float
) -> UInt8[np.ndarray, "H W"]:
    """Fill polygons of the unit circle at a place, size and angle; smooth at the edge.

    angle: in radians.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    coverage = np.zeros((SIZE, SIZE), np.uint8)
    for points, value in rings:
        sixteenths = np.round(((points @ turn) * radius + centre) * 16).astype(np.int32)
        cv2.fillPoly(coverage, [sixteenths], value, cv2.LINE_AA, 4)
    return coverage


def _draw_region(
    rng: np.random.Generator, halved: bool, centre: tuple[float, float], radius: float
) -> tuple[str, Bool[np.ndarray, "H W"]]:
    """Draw where an object has its second colour: on one side of a line, or in the middle."""
    if halved:
        return "twotone", _draw_half_plane(rng, centre, radius)
    return "marked", _draw_disc(rng, centre, radius)


def _draw_half_plane(
    rng: np.random.Generator, centre: tuple[float, float], radius: float
) -> Bool[np.ndarray, "H W"]:
    angle = rng.uniform(0, 2 * np.pi)
    along = (COLUMNS - centre[0]) * np.cos(angle) + (ROWS - centre[1]) * np.sin(angle)
    return along > rng.uniform(-0.25, 0.25) * radius


def _draw_disc(
    rng: np.random.Generator, centre: tuple[float, float], radius: float
) -> Bool[np.ndarray, "H W"]:
    return np.hypot(COLUMNS - centre[0], ROWS - centre[1]) < radius * rng.uniform(0.3, 0.5)


def _expose(rng: np.random.Generator, image: FloatPicture) -> UInt8[np.ndarray, "H W 3"]:
    """Change the brightness, add noise, and blur one image in five."""
    noise = rng.normal(0, rng.uniform(0, 6), image.shape).astype(np.float32)
    exposed = np.clip(image * rng.uniform(0.8, 1.1) + noise, 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(exposed, (3, 3), 0) if rng.random() < 0.2 else exposed
