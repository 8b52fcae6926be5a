"""Measure the tiny models on freshly drawn scenes, the way the method will use them."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from open_clip.model import CLIP
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from fmawsss.tiny.pretrain_data import P_MATERIAL
from fmawsss.tiny.shapes import CLASS_NAMES, Scene, draw_scene

BORDER = 2  # pixels


@torch.no_grad()
def measure_sam(sam: Sam, rng: np.random.Generator, count: int) -> dict[str, float]:
    """Ask for masks in scenes: in the middle of each object, and at four places of the ground.

    Returns mean IoUs: the best of three masks, level 2, the inner border (2 pixels) of the best
    mask, level 2 on the ground; and the mean absolute error of the IoU that level 2 expects of
    itself.
    """
    rows: list[tuple[float, float, float, float]] = []
    grounds: list[float] = []
    for scene in (draw_scene(rng, P_MATERIAL) for _ in range(count)):
        # Ask
        masks = [scene.instance == i for i in np.unique(scene.instance[scene.instance > 0])]
        ground = np.argwhere(scene.instance == 0)
        places = list(ground[rng.integers(len(ground), size=4)])
        centres = [_find_centre(mask) for mask in masks]
        answers, quality = _ask_points(sam, scene, np.array(centres + places))

        # Compare
        for mask, answer, expected in zip(masks, answers, quality, strict=False):
            rows.append(_compare(mask, answer, float(expected[2])))
        grounds += [_overlap(answer[2], scene.instance == 0) for answer in answers[len(masks) :]]
    names = ("iou_best_of_three", "iou_level_two", "iou_head_error", "iou_border")
    means = dict(zip(names, np.mean(rows, 0).tolist(), strict=True))
    return {**means, "iou_ground": float(np.mean(grounds))}


def _compare(
    mask: Bool[np.ndarray, "H W"], answer: Bool[np.ndarray, "3 H W"], expected: float
) -> tuple[float, float, float, float]:
    """Return the IoU of the best answer and of level 2, the latter's error, the IoU of borders."""
    overlaps = [_overlap(level, mask) for level in answer]
    best = int(np.argmax(overlaps))
    border = _overlap(_cut_border(answer[best]), _cut_border(mask))
    return overlaps[best], overlaps[2], abs(expected - overlaps[2]), border


def _ask_points(
    sam: Sam, scene: Scene, places: np.ndarray
) -> tuple[Bool[np.ndarray, "n 3 H W"], Float[np.ndarray, "n 3"]]:
    """Answer points with three masks each, by segment_anything's own forward pass.

    places: rows and columns.
    """
    # The question, as the library takes it
    points = torch.from_numpy(places[:, ::-1].copy()).float()  # SAM adds half a pixel itself
    question = {
        "image": torch.from_numpy(scene.image).permute(2, 0, 1).float(),
        "original_size": scene.image.shape[:2],
        "point_coords": points[:, None],
        "point_labels": torch.ones(len(points), 1),
    }
    answer = sam([question], multimask_output=True)[0]
    return answer["masks"].numpy(), answer["iou_predictions"].numpy()


def _find_centre(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return divmod(int(depth.argmax()), mask.shape[1])


def _cut_border(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    inside = cv2.erode(
        np.pad(mask.astype(np.uint8), 1), np.ones((3, 3), np.uint8), iterations=BORDER
    )[1:-1, 1:-1]
    return mask & (inside == 0)


def _overlap(first: Bool[np.ndarray, "H W"], second: Bool[np.ndarray, "H W"]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


@torch.no_grad()
def measure_clip(
    model: CLIP, tokens: Tensor, rng: np.random.Generator, count: int
) -> dict[str, float]:
    """Measure how well hand-written prompts, one per class, find classes in fresh images.

    Returns average precisions over the images, and their mean.
    """
    # Images, and what they show
    scenes = [draw_scene(rng, P_MATERIAL) for _ in range(count)]
    classes = np.arange(1, len(CLASS_NAMES) + 1)
    truth = np.array([np.isin(classes, scene.semantic) for scene in scenes])
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    values = (model.visual.image_mean, model.visual.image_std)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in values)
    images = (pixels.float() / 255 - mean) / std

    # How near prompts are to them
    text = F.normalize(model.encode_text(tokens), dim=-1)
    nearness = (F.normalize(model.encode_image(images), dim=-1) @ text.T).numpy()
    precisions = {
        f"ap_{name}": _average_precision(truth[:, index], nearness[:, index])
        for index, name in enumerate(CLASS_NAMES)
    }
    return {"map": float(np.mean(list(precisions.values()))), **precisions}


def _average_precision(truth: Bool[np.ndarray, "n"], nearness: Float[np.ndarray, "n"]) -> float:
    """Average the precision over the ranks of the positives."""
    if not truth.any():
        return 0.0
    ranked = truth[np.argsort(-nearness, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())
