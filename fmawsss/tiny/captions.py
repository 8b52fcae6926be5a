"""Captions of the generated images: what a text might say of a photo, and what it leaves out."""

import re

import numpy as np

from fmawsss.tiny.grounds import BACKGROUNDS
from fmawsss.tiny.shapes import CLASS_NAMES, STUFF, Scene, SceneObject
from fmawsss.tiny.textures import COLOUR_NAMES, TEXTURES

# class name -> words for it, repeated by how usual they are
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc", "dot"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "wedge"),
    "star": ("star",),
    "ring": ("ring", "ring", "hoop", "donut"),
    "cross": ("cross", "cross", "plus"),
    "heart": ("heart",),
    "moon": ("moon", "moon", "crescent"),
}
TEMPLATES = (
    "a photo of {}",
    "a photo of {}",
    "an image of {}",
    "a picture with {}",
    "{}",
    "there is {}",
    "a drawing of {}",
    "{} in the scene",
)
BACKGROUND_PHRASES = (" on a {} background", " over a {} background", ", {} background")
SIZES = ("big", "small")


def draw_caption(rng: np.random.Generator, scene: Scene, p_omit: float = 0.12) -> str:
    """Describe a scene in one phrase.

    p_omit: probability that an object is left out; one is always named.
    """
    return draw_phrase(rng, scene.objects, scene.background, scene.stuff, p_omit)


def draw_phrase(
    rng: np.random.Generator,
    objects: tuple[SceneObject, ...],
    background: str,
    stuff: tuple[str, ...],
    p_omit: float = 0.12,
) -> str:
    """Describe some objects of a scene, sometimes its background, sometimes its stuff."""
    # The objects, in any order
    told = [thing for thing in objects if rng.random() > p_omit] or list(objects[:1])
    nouns = [_name_object(rng, told[i]) for i in rng.permutation(len(told))]
    text = _choose(rng, TEMPLATES).format((" and " if rng.random() < 0.6 else ", ").join(nouns))

    # What is around them
    if rng.random() < 0.45:
        text += _choose(rng, BACKGROUND_PHRASES).format(background)
    if stuff and rng.random() < 0.4:
        text += " with " + _choose(rng, stuff)
    return text + ("." if rng.random() < 0.5 else "")


def list_words() -> list[str]:
    """List every lower-case word that a caption can hold, in alphabetical order."""
    nouns = [word for words in SYNONYMS.values() for word in words]
    others = [*SIZES, *COLOUR_NAMES, *TEXTURES, *BACKGROUNDS, *STUFF, *CLASS_NAMES]
    small = ["twotone", "marked", "a", "an", "and", "with"]
    phrases = [*TEMPLATES, *BACKGROUND_PHRASES, *others, *small, *nouns]
    return sorted({word for phrase in phrases for word in re.findall("[a-z]+", phrase)})


def _name_object(rng: np.random.Generator, thing: SceneObject) -> str:
    """Name an object by a synonym of its class, after some of its size, texture and colour."""
    # Before the noun
    size = "big" if thing.radius > 25 else "small" if thing.radius < 17 else ""
    words = [size] if size and rng.random() < 0.3 else []
    if thing.texture != "solid" and rng.random() < 0.2:
        words.append(thing.texture)
    if rng.random() < 0.5:
        words.append(thing.colour)

    # The noun
    words.append(_choose(rng, SYNONYMS[CLASS_NAMES[thing.class_index]]))
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
