"""Quasi-superpixels of an image: SAM on a grid of points, judged level by level (METHOD 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes
from torch import Tensor, nn

from fmawsss.files.downloads import NotFetchedError, fetch_file
from fmawsss.files.tensor_files import describe_fault, require_finite
from fmawsss.sam.candidates import (
    Candidates,
    clean_regions,
    join_candidates,
    record_superpixels,
    suppress_crop_duplicates,
    suppress_duplicates,
)
from fmawsss.sam.encoder import EncoderWrapper
from fmawsss.sam.points import Frame, PointPredictor
from fmawsss.sam.thresholds import Drawn, LevelThresholds, draw_crops, judge_masks
from fmawsss.superpixels import Superpixels, choose_rock_sand_water, keep_made

CHECKPOINTS = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}
SIZES = {"vit_b": 375_042_383, "vit_l": 1_249_524_607, "vit_h": 2_564_550_879}  # bytes, told only
DIGESTS = {
    "vit_b": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "vit_l": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "vit_h": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
}
URL = "https://dl.fbaipublicfiles.com/segment_anything"


def load_sam(kind: str, folder: str | Path) -> Sam:
    """Load an official SAM, `vit_b`, `vit_l` or `vit_h`, whose checkpoint lies in `folder`.

    A checkpoint that is missing is fetched.

    Raises:
        FileNotFoundError: naming address and place, when it cannot be fetched.
        ValueError: for another kind, and for a checkpoint that does not fit.
    """
    if kind not in CHECKPOINTS:
        raise ValueError(f"no SAM is called {kind!r}: choose one of {', '.join(CHECKPOINTS)}")
    file = CHECKPOINTS[kind]
    try:
        path = fetch_file(Path(folder) / file, f"{URL}/{file}", DIGESTS[kind], about=SIZES[kind])
    except NotFetchedError:  # of the same size, for a plan
        return sam_model_registry[kind]().eval()
    return fill_sam(sam_model_registry[kind](), path, kind)


def fill_sam(sam: Sam, path: Path, kind: str, rename: Callable[[str], str] = str) -> Sam:
    """Give a SAM the weights of a checkpoint, all of them, whose names `rename` translates.

    Raises ValueError, naming the file, for one that does not fit.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict):
            raise ValueError("it holds no tensors with names")
        sam.load_state_dict({rename(name): tensor for name, tensor in weights.items()})
        require_finite(sam.state_dict().items())
    except Exception as error:
        raise ValueError(
            f"{path} is no checkpoint of SAM {kind} ({describe_fault(error)}): delete it, it will "
            "be fetched again"
        ) from None
    return sam.eval()


class SuperpixelGenerator(nn.Module):
    """SAM's automatic mask generation, with offsets per level, and the rock-sand-water filter.

    Offsets of zero and `recall_threshold=None` give `segment_anything.SamAutomaticMaskGenerator`.
    Its settings keep their names; `iou_offsets` are added to the predicted IoU before its
    threshold, `nms_offsets` before ranking, `stability_offsets` to the stability before its
    threshold, one each for subpart, part and whole. `predictor` and `encoder` say how a SAM is
    asked; a source that answers points by itself, as `Sam2Points` does, needs neither.
    """

    def __init__(
        self,
        sam: Sam | PointPredictor,
        predictor: Callable[[Sam, EncoderWrapper], PointPredictor],
        encoder: EncoderWrapper,
        points_per_side: int,
        points_per_batch: int,
        crops_per_batch: int,
        chunk_megabytes: float,
        pred_iou_thresh: float,
        stability_score_thresh: float,
        stability_score_offset: float,
        box_nms_thresh: float,
        crop_n_layers: int,
        crop_nms_thresh: float,
        crop_overlap_ratio: float,
        crop_n_points_downscale_factor: int,
        min_mask_region_area: int,
        iou_offsets: Sequence[float],
        nms_offsets: Sequence[float],
        stability_offsets: Sequence[float],
        recall_threshold: float | None,
    ) -> None:
        super().__init__()
        model: Any = predictor(sam, encoder) if isinstance(sam, Sam) else sam
        self.predictor: PointPredictor = model.eval().requires_grad_(False)
        # how much at once
        self.points_per_batch = points_per_batch
        self.crops_per_batch = crops_per_batch
        self.chunk_numbers = int(chunk_megabytes * (1 << 18))  # of four bytes
        # what passes
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.nms_offsets = _collect_offsets("nms_offsets", nms_offsets)
        self.recall_threshold = recall_threshold
        self.thresholds = LevelThresholds(
            pred_iou_thresh,
            _collect_offsets("iou_offsets", iou_offsets),
            stability_score_thresh,
            stability_score_offset,
            _collect_offsets("stability_offsets", stability_offsets),
        )
        self.grids = build_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)

    def generate(self, image: UInt8[np.ndarray, "H W 3"]) -> Superpixels:
        """Cut an RGB image into quasi-superpixels; where no mask survives, the record is empty."""
        return self.generate_batch([image])[0]

    def generate_batch(self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]) -> list[Superpixels]:
        """Cut images of any sizes; their crops share the encoder's batches."""
        return [finish() for finish in self.begin_batch(images)]

    def begin_batch(
        self, images: Sequence[UInt8[np.ndarray, "_H _W 3"]]
    ) -> list[Callable[[], Superpixels]]:
        """Search images for masks; what is returned of each cleans and codes them, on the CPU.

        A thread may do that while a GPU is at the next images; what was searched on the CPU is
        cleaned at once. Autocast is off: the encoder alone chooses its precision.
        """
        # what SAM will see: the images, and crops of them
        sizes = [check_rgb(image) for image in images]
        frames = [self.list_frames(size) for size in sizes]
        views = [
            (image, frame) for image, own in zip(images, frames, strict=True) for frame, _ in own
        ]

        # encode and search
        device = next(self.parameters(), torch.empty(0)).device.type
        finishing: list[Callable[[], Superpixels]] = []
        with torch.no_grad(), torch.autocast(device, enabled=False):
            crops = self.predictor.encode_crops(views, self.crops_per_batch)
            for own, size in zip(frames, sizes, strict=True):
                finish = partial(self.finish, self.search_image(crops, own, size).cpu(), size)
                finishing.append(partial(keep_made, finish()) if device == "cpu" else finish)
        return finishing

    def list_frames(self, size: tuple[int, int]) -> list[tuple[Frame, int]]:
        """List the whole image, then crops of it, each with its layer; empty crops are left out."""
        boxes, layers = generate_crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        frames = [Frame((left, top, right, bottom), size) for left, top, right, bottom in boxes]
        return [
            (frame, layer) for frame, layer in zip(frames, layers, strict=True) if frame.pixels > 0
        ]

    def search_image(
        self, crops: Iterator[Any], frames: list[tuple[Frame, int]], size: tuple[int, int]
    ) -> Candidates:
        """Search all crops of an image, then suppress duplicates between them."""
        found: list[Candidates] = []
        for layer, together in self.gather_frames(frames):
            found += self.search_crops([next(crops) for _ in together], together, layer)
        masks = join_candidates(found, size)
        return suppress_crop_duplicates(masks, self.crop_nms_thresh) if len(frames) > 1 else masks

    def gather_frames(self, frames: list[tuple[Frame, int]]) -> Iterator[tuple[int, list[Frame]]]:
        """Gather the crops of each layer whose points fit into one call of the decoder."""
        for layer, members in groupby(frames, key=itemgetter(1)):
            own = [frame for frame, _ in members]
            count = max(1, self.points_per_batch // len(self.grids[layer]))
            for first in range(0, len(own), count):
                yield layer, own[first : first + count]

    def search_crops(
        self, crops: Sequence[Any], frames: Sequence[Frame], layer: int
    ) -> list[Candidates]:
        """Ask for the masks of all points of some crops, and suppress duplicates within each."""
        # the grid of this layer, in batches
        sides = [(frame.box[2] - frame.box[0], frame.box[3] - frame.box[1]) for frame in frames]
        points = np.stack([self.grids[layer] * np.array(side) for side in sides])
        step = max(1, self.points_per_batch // len(crops))
        batches = np.split(points, range(step, points.shape[1], step), axis=1)

        # what passes the thresholds, each crop's parts in the order of their points
        own: list[list[Drawn]] = [[] for _ in crops]
        for batch in batches:
            drawn = draw_crops(
                self.predictor, crops, batch, frames, self.thresholds, self.chunk_numbers
            )
            for parts, more in zip(own, drawn, strict=True):
                parts += more
        passed = iter(judge_masks([part for parts in own for part in parts], self.thresholds))

        # NMS
        found = []
        for frame, parts in zip(frames, own, strict=True):
            masks = join_candidates([next(passed) for _ in parts], frame.size)
            ranks = masks.predicted_iou + self.nms_offsets[masks.level.int()]
            found.append(suppress_duplicates(masks, ranks, self.box_nms_thresh))
        return found

    def finish(self, masks: Candidates, size: tuple[int, int]) -> Superpixels:
        """Clean and filter the masks of an image, which lie on the CPU."""
        # small regions
        if self.min_mask_region_area > 0:
            iou_threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
            masks = clean_regions(masks, size, self.min_mask_region_area, iou_threshold)

        # rocks, sand, water
        if self.recall_threshold is not None:
            kept = choose_rock_sand_water(masks.bits, masks.level, self.recall_threshold)
            masks = masks.select(kept)
        return record_superpixels(masks, size)


def check_rgb(image: UInt8[np.ndarray, "H W 3"]) -> tuple[int, int]:
    """Return height and width of an image.

    Raises:
        ValueError: for anything but 8-bit RGB.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"expected an RGB image (height, width, 3) of uint8, found {image.shape} of "
            f"{image.dtype}"
        )
    return image.shape[0], image.shape[1]


def build_grids(points_per_side: int, layers: int, downscale: int) -> list[np.ndarray]:
    """Lay SAM's grids of points, in shares of a crop's sides, for image and layers of crops."""
    if points_per_side < downscale**layers:
        raise ValueError(
            f"points_per_side={points_per_side} leaves no point in crop layer {layers}: raise it, "
            f"or lower crop_n_layers or crop_n_points_downscale_factor={downscale}"
        )
    return build_all_layer_point_grids(points_per_side, layers, downscale)


def _collect_offsets(name: str, offsets: Sequence[float]) -> Float32[Tensor, "3"]:
    if len(offsets) != 3:
        raise ValueError(
            f"{name}={list(offsets)}: expected three numbers, for subpart, part and whole"
        )
    return torch.tensor(list(offsets), dtype=torch.float32)
