"""The stages of superpixel making, timed: segment_anything's own with a plain filter, and ours."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.utils.amg import (
    MaskData,
    area_from_rle,
    batched_mask_to_box,
    box_xyxy_to_xywh,
    build_point_grid,
    generate_crop_boxes,
    mask_to_rle_pytorch,
    rle_to_mask,
)
from torch import Tensor

from benchmarks.superpixel_inputs import (
    PUBLISHED,
    RECALL,
    Sizes,
    build_sam,
    calibrate_sam,
    draw_image,
    draw_masks,
)
from fmawsss.sam.bitmasks import pack_masks
from fmawsss.sam.candidates import Candidates
from fmawsss.sam.encoder import FusedEncoder
from fmawsss.sam.generator import SuperpixelGenerator
from fmawsss.sam.points import Frame, SamPoints
from fmawsss.sam.thresholds import draw_crops, judge_masks

SPEED = {"points_per_batch": 8, "crops_per_batch": 1, "chunk_megabytes": 16}
NO_OFFSETS = (0.0, 0.0, 0.0)


class Clock:
    """CPU seconds by stage; what runs inside another stage is not counted there."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inside: list[str] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        start, outer = time.process_time(), self.inside[-1] if self.inside else None
        self.inside.append(stage)
        yield
        self.inside.pop()
        passed = time.process_time() - start
        self.seconds[stage] += passed
        if outer:
            self.seconds[outer] -= passed

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count every call of a method as a stage."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(stage):
                return method(*args, **kwargs)

        setattr(owner, name, timed)


@dataclass(frozen=True)
class Prepared:
    """What both forms start from: SAM, our generator, an image, masks for the last stage."""

    sam: Any
    generator: SuperpixelGenerator
    image: np.ndarray
    masks: Tensor
    levels: Tensor


def prepare_sam(sizes: Sizes, build: Callable[[Sizes], Sam] = build_sam) -> Prepared:
    """Build SAM and our generator, and let a few points tell how many masks would pass."""
    sam, points, size = build(sizes), choose_points(sizes)[:8], sizes.image
    encoder = partial(FusedEncoder, dtype=torch.float32, bias_numbers=1 << 22, compile=None)
    generator = SuperpixelGenerator(
        sam, SamPoints, encoder, **SPEED, **PUBLISHED, iou_offsets=NO_OFFSETS,
        nms_offsets=NO_OFFSETS, stability_offsets=NO_OFFSETS, recall_threshold=RECALL,
    )  # fmt: skip
    image, frame = draw_image(size), whole_frame(size)
    crop = next(generator.predictor.encode_crops([(image, frame)], 1))
    answer = generator.predictor.answer_points(crop, points)
    logits = generator.predictor.draw_masks(
        crop, answer, torch.ones(len(points), 3, dtype=torch.bool)
    )
    calibrate_sam(sam, answer.iou, logits)
    return Prepared(sam, generator, image, *draw_masks(sizes.masks, size))


def whole_frame(size: tuple[int, int]) -> Frame:
    """Frame a whole image."""
    return Frame((0, 0, size[1], size[0]), size)


def choose_points(sizes: Sizes) -> np.ndarray:
    """Choose the points of the timed batch, spread over the image."""
    points = build_point_grid(32) * np.array(sizes.image[::-1])
    return points[:: len(points) // sizes.points][: sizes.points]


def count_crops(size: tuple[int, int]) -> int:
    """Count the crops of an image in the published settings."""
    return len(
        generate_crop_boxes(size, PUBLISHED["crop_n_layers"], PUBLISHED["crop_overlap_ratio"])[0]
    )


def time_ours(sizes: Sizes, start: Prepared) -> tuple[Counter[str], int]:
    """Time our stages once each; return them and the number of masks that the batch leaves."""
    generator, image = start.generator, start.image
    clock, predictor = Clock(), generator.predictor
    clock.watch(predictor.encoder, "forward", "encoder")
    with clock("prepare"):
        crop = next(predictor.encode_crops([(image, whole_frame(sizes.image))], 1))
    for method in ("answer_points", "draw_masks"):
        clock.watch(predictor, method, "decoder")
    found = 0
    with clock("after"):
        for points in np.split(choose_points(sizes), range(8, sizes.points, 8)):
            frame = whole_frame(sizes.image)
            asked = predictor, [crop], points[None], [frame]
            (drawn,) = draw_crops(*asked, generator.thresholds, generator.chunk_numbers)
            found += sum(map(len, judge_masks(drawn, generator.thresholds)))
    candidates = make_candidates(start.masks, start.levels)
    with clock("end"):
        generator.finish(candidates, sizes.image)
    return clock.seconds, found


def make_candidates(masks: Tensor, levels: Tensor) -> Candidates:
    """Turn masks into candidates whose boxes do not suppress each other."""
    amount = len(masks)
    boxes = batched_mask_to_box(masks)
    scores, crop = (
        torch.ones(amount),
        torch.tensor([[0, 0, masks.shape[2], masks.shape[1]]]).expand(amount, 4),
    )
    return Candidates(
        pack_masks(masks),
        levels.byte(),
        boxes,
        scores,
        scores,
        torch.zeros(amount, 2).double(),
        crop,
    )


def time_plain(sizes: Sizes, start: Prepared) -> tuple[Counter[str], int]:
    """Time segment_anything's stages once each, then the plain filter."""
    sam, image = start.sam, start.image
    clock, generator = (
        Clock(),
        SamAutomaticMaskGenerator(sam, points_per_batch=sizes.points, **PUBLISHED),
    )
    with torch.no_grad():
        with clock("encoder"):
            generator.predictor.set_image(image)
        clock.watch(sam.mask_decoder, "forward", "decoder")
        with clock("after"):
            box = list(whole_frame(sizes.image).box)
            found = generator._process_batch(choose_points(sizes), sizes.image, box, sizes.image)
        masks = start.masks
        data = MaskData(
            rles=mask_to_rle_pytorch(masks), boxes=batched_mask_to_box(masks), levels=start.levels
        )
        with clock("end"):
            finish_plainly(data)
    return clock.seconds, len(found["rles"])


def finish_plainly(data: MaskData) -> list[dict[str, Any]]:
    """Clean small regions as segment_anything does, then filter by comparing decoded masks."""
    threshold = max(PUBLISHED["box_nms_thresh"], PUBLISHED["crop_nms_thresh"])
    data = SamAutomaticMaskGenerator.postprocess_small_regions(
        data, PUBLISHED["min_mask_region_area"], threshold
    )
    kept: list[int] = []
    for level in (2, 1, 0):
        own = [index for index in range(len(data["rles"])) if int(data["levels"][index]) == level]
        masks, judges = (decode_plainly(data, chosen) for chosen in (own, kept))
        if kept and own:
            overlaps = (
                torch.stack([(mask & judges).sum((1, 2)) for mask in masks])
                / masks.sum((1, 2))[:, None]
            )
            own = [
                index
                for index, share in zip(own, overlaps, strict=True)
                if bool((share < RECALL).all())
            ]
        kept += own
    rles = [data["rles"][index] for index in kept]
    boxes = [box_xyxy_to_xywh(data["boxes"][index]).tolist() for index in kept]
    return [
        {"segmentation": rle, "area": area_from_rle(rle), "bbox": box}
        for rle, box in zip(rles, boxes, strict=True)
    ]


def decode_plainly(data: MaskData, chosen: list[int]) -> Tensor:
    """Decode run lengths one by one."""
    masks = [torch.from_numpy(rle_to_mask(data["rles"][index])) for index in chosen]
    return torch.stack(masks) if masks else torch.zeros(0, 1, 1, dtype=torch.bool)


FORMS: dict[str, Callable[[Sizes, Prepared], tuple[Counter[str], int]]] = {
    "plain": time_plain,
    "ours": time_ours,
}
