"""What the tiny CLIP learns from: views of generated scenes, with all that is said of them."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from open_clip import get_tokenizer
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.nn import functional as F

from fmawsss.tiny.captions import draw_phrase, list_words
from fmawsss.tiny.grounds import BACKGROUNDS
from fmawsss.tiny.models import ClipArchitecture
from fmawsss.tiny.pretrain_clip_model import CLASSES, ClipBatch
from fmawsss.tiny.pretrain_data import ScenePool, turn_arrays
from fmawsss.tiny.shapes import CLASS_NAMES, MIN_PIXELS, SIZE, STUFF, Scene, SceneObject
from fmawsss.tiny.textures import COLOUR_NAMES

CLIP_ARCHITECTURE = ClipArchitecture()
TEXT_LENGTH = 32  # tokens; the tokenizer cuts the rare longer captions
TAGS = (*CLASS_NAMES, *COLOUR_NAMES, *BACKGROUNDS, *STUFF)


@dataclass(frozen=True)
class SceneView:
    """How a batch looks at its scenes.

    images: per batch. side: of crops, in pixels. zoom: whether one object fills a crop.
    keep: share of the patches that is seen, drawn anew for each image.
    """

    images: int
    side: int
    zoom: bool = False
    keep: float = 1.0


class Reader:
    """Turn texts into indices of a compact vocabulary.

    token_ids: its rows in the full one, ascending.
    """

    def __init__(self) -> None:
        self.tokenize = get_tokenizer("ViT-B-32")
        self.token_ids = torch.unique(self.tokenize([*list_words(), ",", "."]))
        self.compact = torch.zeros(int(self.token_ids.max()) + 1, dtype=torch.long)
        self.compact[self.token_ids] = torch.arange(len(self.token_ids))

    def read(self, texts: list[str]) -> Int[Tensor, "B t"]:
        """Tokenize texts of known words."""
        return self.compact[self.tokenize(texts, context_length=TEXT_LENGTH)]


def draw_clip_batch(
    rng: np.random.Generator, pool: ScenePool, view: SceneView, reader: Reader, device: torch.device
) -> ClipBatch:
    """Look at scenes, turned and mirrored, and say what is seen."""
    images, semantics, tags, captions = [], [], np.zeros((view.images, len(TAGS)), np.float32), []
    for row, scene in enumerate(pool.pick(view.images)):
        # What is seen
        image, semantic, instance = cut_scene(rng, scene, view)
        visible = np.bincount(instance.ravel(), minlength=len(scene.objects) + 1)[1:]
        pairs = zip(scene.objects, visible, strict=True)
        objects = tuple(thing for thing, count in pairs if count >= MIN_PIXELS)

        # What is said of it
        tags[row, list_tags(objects, scene)] = 1
        told = objects or scene.objects[:1]
        captions.append(draw_phrase(rng, told, scene.background, scene.stuff))
        image, semantic = turn_arrays((image, semantic), int(rng.integers(4)), rng.random() < 0.5)
        images.append(image)
        semantics.append(semantic)

    # Which patches are seen
    corner = rng.integers(0, (SIZE - view.side) // CLIP_ARCHITECTURE.patch_size + 1, size=2)
    patches = (view.side // CLIP_ARCHITECTURE.patch_size) ** 2
    order = rng.random((view.images, patches)).argsort(axis=1)
    return ClipBatch(
        images=normalize_pixels(np.stack(images)).to(device),
        corner=torch.from_numpy(corner).to(device),
        patches=share_patches(np.stack(semantics)).to(device),
        tags=torch.from_numpy(tags).to(device),
        captions=reader.read(captions).to(device),
        kept=torch.from_numpy(np.sort(order[:, : round(patches * view.keep)])).to(device),
    )


def list_tags(objects: tuple[SceneObject, ...], scene: Scene) -> list[int]:
    """List the tags of a view of a scene: classes and colours of its objects, ground and stuff."""
    words = (scene.background, *scene.stuff)
    return [
        *(thing.class_index for thing in objects),
        *(TAGS.index(thing.colour, CLASSES) for thing in objects),
        *(TAGS.index(word, CLASSES + len(COLOUR_NAMES)) for word in words),
    ]


def cut_scene(
    rng: np.random.Generator, scene: Scene, view: SceneView
) -> tuple[UInt8[np.ndarray, "h w *rest"], ...]:
    """Cut image, semantic and instance mask around a random object; the full side cuts nothing."""
    # A square around it, not quite in the middle
    thing = scene.objects[rng.integers(len(scene.objects))]
    side, jitter = view.side, 20.0
    if view.zoom:
        side = int(np.clip(thing.radius * rng.uniform(2.1, 3.4), 32, SIZE))
        jitter = 0.15 * thing.radius
    corner = np.array(thing.centre) - side / 2 + rng.uniform(-jitter, jitter, 2)
    left, top = np.clip(corner, 0, SIZE - side).astype(int)
    place = slice(top, top + side), slice(left, left + side)
    image, masks = scene.image[place], (scene.semantic[place], scene.instance[place])

    # At the size of the view
    if side == view.side:
        return image, *masks
    size = (view.side, view.side)
    resized = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), *resized


def share_patches(semantic: UInt8[np.ndarray, "B H W"]) -> Float[Tensor, "B N C_and_ground"]:
    """Measure the share of each class in each patch; the ground comes last."""
    patch = CLIP_ARCHITECTURE.patch_size
    grid = semantic.shape[1] // patch
    classes = (torch.from_numpy(semantic).long() - 1) % (CLASSES + 1)
    pixels = F.one_hot(classes, CLASSES + 1).view(-1, grid, patch, grid, patch, CLASSES + 1)
    return pixels.float().mean((2, 4)).flatten(1, 2)


def normalize_pixels(images: UInt8[np.ndarray, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Scale to 0..1 and standardise as open_clip does."""
    visual = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in visual)
    return ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()
