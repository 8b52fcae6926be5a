"""Grounding DINO of the library `transformers` finds boxes for phrases, SAM their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from segment_anything.modeling import Sam
from torch import Tensor, nn

from fmawsss.files.downloads import HUB, fetch_file
from fmawsss.files.tensor_files import MODEL
from fmawsss.resizing import resize_by
from fmawsss.sam.boxes import SamBoxes
from fmawsss.sam.encoder import EncoderWrapper
from fmawsss.text_prompted.maps import Found
from fmawsss.text_prompted.weights import CONFIG, TOKENIZER, load_model, load_tokenizer

KINDS = ("grounding-dino",)
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
BEGIN, END, STOP, ASK = "[CLS]", "[SEP]", ".", "?"  # separate phrases, for the model


def load_grounding_dino(
    repository: str,
    folder: str | Path,
    about: int,
    sam: Any,
    encoder: EncoderWrapper,
    least_score: float,
    shortest: int,
    longest: int,
) -> GroundingDinoSource:
    """Load a Grounding DINO from `folder`; files that are missing are fetched from `repository`.

    No checksum of these files is published and no revision is pinned: what is fetched need not be
    what others had.

    about: bytes of its weights, told before. The others are those of `GroundingDinoSource`.

    Raises:
        ModuleNotFoundError: without `transformers`.
        FileNotFoundError: naming address and place, when a file cannot be fetched.
        ValueError: when the files are no whole Grounding DINO, or `sam` takes no boxes.
    """
    if not isinstance(sam, Sam):
        raise ValueError(
            f"evidence=grounding_dino needs a SAM that draws the masks of boxes, not {type(sam)}: "
            "choose sam=vit_h, vit_l, vit_b, mobile or tiny"
        )
    try:
        from transformers import GroundingDinoForObjectDetection
    except ImportError as error:
        raise ModuleNotFoundError(
            f'Grounding DINO needs transformers ({error}): pip install -e ".[text]"'
        ) from error

    # its files
    folder, address = Path(folder), f"{HUB}/{repository}/resolve/main"
    for name in (CONFIG, TOKENIZER):
        fetch_file(folder / name, f"{address}/{name}")
    fetch_file(folder / MODEL, f"{address}/{MODEL}", about=about)

    remedy = "delete it, it will be fetched again"
    model = load_model(GroundingDinoForObjectDetection, folder, KINDS, remedy)
    tokenizer = load_tokenizer(folder / TOKENIZER, remedy)
    boxes = SamBoxes(sam.requires_grad_(False), encoder)
    return GroundingDinoSource(model, tokenizer, boxes, least_score, shortest, longest)


class GroundingDinoSource(nn.Module):
    """Let a `transformers.GroundingDinoForObjectDetection` find boxes, and SAM their masks.

    The phrases of an image are asked together, in as few prompts as hold them. A box scores for a
    phrase what its best token does.

    sam: draws the masks of boxes.
    least_score: of the boxes that are kept, before they get masks.
    shortest, longest: the sides of the image that the detector sees are at least, and at most, so
        many pixels; the second counts.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sam: SamBoxes,
        least_score: float,
        shortest: int,
        longest: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.sam = sam
        self.least_score = least_score
        self.shortest = shortest
        self.longest = longest
        self.most_tokens = int(model.config.max_text_len)
        self.begin, self.end, self.stop = map(self._find_token, (BEGIN, END, STOP))
        self.separators = {self.begin, self.end, self.stop, tokenizer.token_to_id(ASK)}

    def check_phrase(self, phrase: str) -> None:
        """Raise ValueError for a phrase that would be read as several, or as none."""
        tokens = self._encode(phrase)
        if self.separators.intersection(tokens):
            raise ValueError(
                f"dataset.phrases: Grounding DINO reads {phrase!r} as several phrases, for dots "
                "and question marks separate them: leave them out, or write a list of phrases"
            )
        if not 0 < len(tokens) <= self.most_tokens - 3:
            raise ValueError(
                f"dataset.phrases: {phrase!r} has {len(tokens)} tokens, Grounding DINO reads 1 to "
                f"{self.most_tokens - 3}"
            )

    def find(self, image: UInt8[np.ndarray, "H W 3"], phrases: Sequence[str]) -> list[Found]:
        """Find, for each phrase, the objects of an image whose score exceeds `least_score`."""
        pixels = self.prepare_image(image).to(self.model.device)[None]
        encoded = self.sam.encode_image(image)
        found = []
        for prompt, places in self._join(phrases):
            scores, boxes = self._detect(pixels, prompt)
            for place in places:
                own = scores[:, place].amax(dim=1)
                sure = own > self.least_score
                masks = self.sam.draw_boxes(encoded, boxes[sure])
                found.append(Found(masks, own[sure], boxes[sure], None))
        return found

    def prepare_image(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[Tensor, "3 _H _W"]:
        """Resize and normalise an image as the detector was trained with."""
        height, width = image.shape[:2]
        sides = min(height, width), max(height, width)
        scale = min(self.shortest / sides[0], self.longest / sides[1])
        size = max(1, round(height * scale)), max(1, round(width * scale))
        resized = resize_by(image, size, Image.Resampling.BILINEAR)
        scaled = (resized.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(scaled).permute(2, 0, 1).contiguous()

    def _join(self, phrases: Sequence[str]) -> Iterator[tuple[list[int], list[slice]]]:
        """Join phrases to prompts, each with the places of its phrases' tokens."""
        prompt, places = [self.begin], list[slice]()
        for phrase in phrases:
            tokens = self._encode(phrase)
            if places and len(prompt) + len(tokens) + 2 > self.most_tokens:
                yield [*prompt, self.end], places
                prompt, places = [self.begin], []
            places.append(slice(len(prompt), len(prompt) + len(tokens)))
            prompt += [*tokens, self.stop]
        if places:
            yield [*prompt, self.end], places

    def _detect(
        self, pixels: Float[Tensor, "1 3 H W"], prompt: Sequence[int]
    ) -> tuple[Float[Tensor, "K L"], Float[Tensor, "K 4"]]:
        """Score boxes for each token of a prompt; boxes are left, top, right, bottom in 0…1."""
        output = self.model(
            pixel_values=pixels, input_ids=torch.tensor([prompt], device=pixels.device)
        )
        x, y, width, height = output.pred_boxes[0].float().unbind(dim=1)
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        return output.logits[0].float().sigmoid(), torch.stack(corners, dim=1).clamp(0, 1)

    def _encode(self, phrase: str) -> list[int]:
        tokens: list[int] = self.tokenizer.encode(phrase.lower(), add_special_tokens=False).ids
        return tokens

    def _find_token(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(
                f"the tokenizer of Grounding DINO has no {token}: it is of another model, delete "
                "it, it will be fetched again"
            )
        return int(number)
