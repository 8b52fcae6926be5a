"""SAM 2.1, of the library `transformers`, asked with single points as SAM is in `points.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from PIL import Image
from torch import Tensor, nn

from fmawsss.files.downloads import HUB, fetch_file
from fmawsss.resizing import resize_by
from fmawsss.sam.mask_resize import AxisResize, join_resizes
from fmawsss.sam.points import DrawnAnswer, FramedImage, cut_crop

SAM2_FILES = ("config.json", "model.safetensors")
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def load_sam2(repository: str, folder: str | Path) -> Sam2Points:
    """Load a SAM 2 from `folder`; its files are fetched from `repository` if they are missing.

    No checksum of these files is published and no revision is pinned: what is fetched need not be
    what others had. It is checked for its announced length, and every weight must come from it.

    Raises:
        ModuleNotFoundError: without `transformers`.
        FileNotFoundError: naming address and place, when a file cannot be fetched.
        ValueError: when the files are no whole SAM 2.
    """
    try:
        from safetensors import SafetensorError
        from transformers import Sam2Model
    except ImportError as error:
        raise ModuleNotFoundError(
            f'SAM 2 needs transformers ({error}): pip install -e ".[sam2]"'
        ) from error
    for name in SAM2_FILES:
        fetch_file(Path(folder) / name, f"{HUB}/{repository}/resolve/main/{name}")
    try:
        loaded: Any = Sam2Model.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        model, report = loaded
        if report["missing_keys"]:  # transformers only warns, and leaves them random
            raise ValueError(
                f"{len(report['missing_keys'])} weights are missing, e.g. "
                f"{min(report['missing_keys'])}"
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"{folder} holds no whole SAM 2 ({error}): delete it, it will be fetched again"
        ) from error
    return Sam2Points(model.eval())


@dataclass(frozen=True)
class Sam2Crop:
    """An encoded crop."""

    features: list[Float[Tensor, "1 _D _h _w"]]
    size: tuple[int, int]  # height, width in the image
    rows: AxisResize
    columns: AxisResize


class Sam2Points(nn.Module):
    """Let a `transformers.Sam2Model` answer points."""

    mask_threshold = 0.0

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.side = int(model.prompt_encoder.input_image_size)
        self.point_numbers = 1  # the answer holds the masks already

    def encode_crops(self, views: Iterable[FramedImage], at_once: int) -> Iterator[Sam2Crop]:
        """Squash views to the square that SAM 2 sees, and run the image encoder."""
        remaining = iter(views)
        while some := list(islice(remaining, at_once)):
            inputs = [self._prepare_input(cut_crop(view)) for view in some]
            levels = self.model.get_image_embeddings(torch.stack(inputs))
            for index, view in enumerate(some):
                yield self._prepare_crop(
                    [level[index : index + 1] for level in levels], cut_crop(view).shape[:2]
                )

    def answer_points(self, crop: Sam2Crop, points: Float64[np.ndarray, "Q 2"]) -> DrawnAnswer:
        """Ask for three masks per point."""
        height, width = crop.size
        scaled = torch.from_numpy(points * [self.side / width, self.side / height]).float()
        output = self.model(
            image_embeddings=crop.features,
            input_points=scaled[None, :, None].to(self.model.device),
            input_labels=torch.ones(1, len(points), 1, dtype=torch.int32, device=self.model.device),
            multimask_output=True,
        )
        return DrawnAnswer(output.iou_scores[0], output.pred_masks[0])

    def draw_masks(
        self, crop: Sam2Crop, answer: DrawnAnswer, wanted: Bool[Tensor, "Q 3"]
    ) -> Float[Tensor, "M h w"]:
        """Pick the wanted masks."""
        return answer.logits[wanted.to(answer.logits.device)]

    def enlarge_masks(
        self, crop: Sam2Crop, logits: Float[Tensor, "M h w"]
    ) -> Float[Tensor, "M H W"]:
        """Resize to the crop."""
        return crop.rows.apply(crop.columns.apply(logits.mT).mT)

    def _prepare_input(self, pixels: UInt8[np.ndarray, "H W 3"]) -> Float32[Tensor, "3 S S"]:
        resized = resize_by(pixels, (self.side, self.side), Image.Resampling.BILINEAR)
        scaled = (resized.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(scaled).permute(2, 0, 1).to(self.model.device)

    def _prepare_crop(self, features: list[Tensor], size: tuple[int, ...]) -> Sam2Crop:
        masks = self.model.prompt_encoder.mask_input_size
        rows, columns = (
            join_resizes(source, source, source, length, self.model.device)
            for source, length in zip(masks, size, strict=True)
        )
        return Sam2Crop(features, (size[0], size[1]), rows, columns)
