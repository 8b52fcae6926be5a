"""Score the tiny models on freshly drawn scenes, the way the method will use them."""

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
def score_sam(sam: Sam, rng: np.random.Generator, count: int) -> dict[str, float]:
    """Ask for a mask at the innermost pixel of each object in `count` scenes, and at four places of
    the ground.

    Gives mean IoUs: the best of three masks, level 2, the inner border (2 pixels) of the best mask,
    level 2 on the ground; and the mean absolute error of the IoU that level 2 expects of itself.
    """
    rows: list[tuple[float, float, float, float]] = []
    grounds: list[float] = []
    for scene in (draw_scene(rng, P_MATERIAL) for _ in range(count)):
        masks = [scene.instance == i for i in np.unique(scene.instance[scene.instance > 0])]
        objects = [_find_centre(mask) for mask in masks]
        ground = np.argwhere(scene.instance == 0)
        answers, quality = _ask(
            sam, scene, np.array(objects + list(ground[rng.integers(len(ground), size=4)]))
        )
        for mask, answer, expected in zip(masks, answers, quality, strict=False):
            overlaps = [_overlap(level, mask) for level in answer]
            best = int(np.argmax(overlaps))
            border = _overlap(_cut_border(answer[best]), _cut_border(mask))
            rows.append(
                (overlaps[best], overlaps[2], abs(float(expected[2]) - overlaps[2]), border)
            )
        grounds += [_overlap(answer[2], scene.instance == 0) for answer in answers[len(masks) :]]
    best_of_three, level_two, error, border = np.mean(rows, 0).tolist()
    return {
        "iou_best_of_three": best_of_three,
        "iou_level_two": level_two,
        "iou_head_error": error,
        "iou_border": border,
        "iou_ground": float(np.mean(grounds)),
    }


def _ask(
    sam: Sam, scene: Scene, places: np.ndarray
) -> tuple[Bool[np.ndarray, "n 3 H W"], Float[np.ndarray, "n 3"]]:
    """Answer points, given as rows and columns, with three masks each through segment_anything's
    own forward pass.
    """
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
def score_clip(
    model: CLIP, tokens: Tensor, rng: np.random.Generator, count: int
) -> dict[str, float]:
    """Measure how well hand-written prompts, one per class (`tokens`), find classes in images and
    patches.

    Gives the mean average precision over images, and the share of patches mostly inside an object
    whose nearest prompt among the classes is the right one.
    """
    scenes = [draw_scene(rng, P_MATERIAL) for _ in range(count)]
    truth = np.array(
        [np.isin(np.arange(1, len(CLASS_NAMES) + 1), scene.semantic) for scene in scenes]
    )
    images = (
        torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float()
        / 255
    )
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (model.visual.image_mean, model.visual.image_std)
    )
    text = F.normalize(model.encode_text(tokens), dim=-1)
    scores = (F.normalize(model.encode_image((images - mean) / std), dim=-1) @ text.T).numpy()
    precisions = [_average_precision(truth[:, c], scores[:, c]) for c in range(len(CLASS_NAMES))]
    return {
        "map": float(np.mean(precisions)),
        **{f"ap_{n}": p for n, p in zip(CLASS_NAMES, precisions, strict=True)},
    }


def _average_precision(truth: Bool[np.ndarray, "n"], scores: Float[np.ndarray, "n"]) -> float:
    """Average the precision over the ranks of the positives."""
    ranked = truth[np.argsort(-scores, kind="stable")]
    return (
        float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())
        if ranked.any()
        else 0.0
    )
