"""SAM 3 of the library `transformers`, asked with phrases (METHOD 11.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from fmawsss.resizing import resize_by
from fmawsss.text_prompted.maps import Found, keep_sure
from fmawsss.text_prompted.weights import FILES, load_model, load_tokenizer

KINDS = ("sam3", "sam3_video")  # the published folder holds the model of videos, this one within
ASK = "https://huggingface.co/facebook/sam3"
SIZE = "3.4 GB"
MEAN = STD = 0.5


def load_sam3(folder: str | Path, least_score: float) -> Sam3Source:
    """Load SAM 3 from `folder`. It is never fetched: its licence has to be accepted by a person.

    Raises:
        ModuleNotFoundError: without `transformers` of a version that has SAM 3.
        FileNotFoundError: naming what is missing, where to ask for it and where to put it.
        ValueError: when the files are no whole SAM 3.
    """
    folder = Path(folder)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder / missing[0]} is missing: SAM 3 is given out on request, ask at {ASK}, then "
            f"put its {', '.join(FILES)} (about {SIZE}) into {folder}; other sources of evidence "
            "do without"
        )
    try:
        from transformers import Sam3Model
    except ImportError as error:
        raise ModuleNotFoundError(
            f'SAM 3 needs transformers 5 ({error}): pip install -e ".[text]"'
        ) from error
    remedy = f"put the files of {ASK} there again"
    model = load_model(Sam3Model, folder, KINDS, remedy)
    return Sam3Source(model, load_tokenizer(folder / "tokenizer.json", remedy), least_score)


class Sam3Source(nn.Module):
    """Let a `transformers.Sam3Model` find what phrases name.

    The image is encoded once, and so is a phrase that comes again. The model's own estimate that
    the phrase is present does not count: it is only asked for classes that the image shows.

    least_score: of the objects that are kept.
    """

    def __init__(self, model: Any, tokenizer: Any, least_score: float) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.least_score = least_score
        side = model.config.image_size
        self.side = int(side if isinstance(side, int) else side[0])
        self.longest = int(model.config.text_config.max_position_embeddings)
        self._texts: dict[str, Any] = {}

    def check_phrase(self, phrase: str) -> None:
        """Raise ValueError for a phrase of more tokens than the model reads."""
        tokens = len(self.tokenizer.encode(phrase).ids)
        if tokens > self.longest:
            raise ValueError(
                f"dataset.phrases: {phrase!r} has {tokens} tokens, SAM 3 reads {self.longest}: "
                "shorten it"
            )

    def find(self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str]) -> list[Found]:
        """Find, for each phrase, the objects of an image whose score exceeds `least_score`."""
        pixels = self.prepare_image(image).to(self.model.device)[None]
        seen = self.model.get_vision_features(pixel_values=pixels)
        return [self._find_phrase(seen, phrase) for phrase in phrases]

    def prepare_image(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[Tensor, "3 S S"]:
        """Squash an image to the square that SAM 3 sees, in -1…1."""
        resized = resize_by(image, (self.side, self.side), Image.Resampling.BILINEAR)
        scaled = (resized.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(scaled).permute(2, 0, 1).contiguous()

    def _find_phrase(self, seen: Any, phrase: str) -> Found:
        """Ask one phrase of an encoded image."""
        output = self.model(vision_embeds=seen, text_embeds=self._encode_text(phrase))
        semantic: Float[Tensor, "h w"] = output.semantic_seg[0, 0]
        found = Found(
            output.pred_masks[0],
            output.pred_logits[0].float().sigmoid(),
            output.pred_boxes[0].float().clamp(0, 1),
            semantic,
        )
        return keep_sure(found, self.least_score)

    def _encode_text(self, phrase: str) -> Any:
        """Encode a phrase, once; alone it needs no padding, and so no mask."""
        if phrase not in self._texts:
            ids: Int64[Tensor, "1 L"] = torch.tensor([self.tokenizer.encode(phrase).ids])
            ids = ids.to(self.model.device)
            self._texts[phrase] = self.model.get_text_features(input_ids=ids, return_dict=True)
        return self._texts[phrase]
