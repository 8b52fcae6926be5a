"""SAM asked with boxes: one mask per box, by its own prompt encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fmawsss.precision import widen
from fmawsss.sam.encoder import EncoderWrapper
from fmawsss.sam.points import prepare_input

AT_ONCE = 32  # boxes


@dataclass(frozen=True)
class EncodedImage:
    """An image, encoded by SAM."""

    features: Float[Tensor, "1 D h w"]
    input_size: tuple[int, int]  # height, width in the square that SAM sees; the rest is padding


class SamBoxes(nn.Module):
    """Let a `segment_anything` SAM answer boxes; `encoder` says how its image encoder runs."""

    def __init__(self, sam: Sam, encoder: EncoderWrapper) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = encoder(sam.image_encoder)

    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> EncodedImage:
        """Resize an image to SAM's input as SAM does, and run the image encoder."""
        square, input_size = prepare_input(self.sam, image)
        return EncodedImage(self.encoder(square[None]), input_size)

    def draw_boxes(
        self, image: EncodedImage, boxes: Float[Tensor, "K 4"]
    ) -> Float[Tensor, "K _H _W"]:
        """Draw the mask of each box as logits, at the size in which SAM sees the image.

        boxes: left, top, right and bottom in 0…1 of the image's width and height.
        """
        (height, width), side = image.input_size, self.sam.image_encoder.img_size
        scaled = boxes * boxes.new_tensor([width, height, width, height])
        drawn = [self._decode(image, some) for some in scaled.split(AT_ONCE) if len(some)]
        if not drawn:
            return boxes.new_zeros(0, height, width)
        logits = interpolate(torch.cat(drawn), (side, side), mode="bilinear", align_corners=False)
        return logits[:, 0, :height, :width]

    def _decode(
        self, image: EncodedImage, boxes: Float[Tensor, "K 4"]
    ) -> Float[Tensor, "K 1 _h _w"]:
        prompts, no_mask = self.sam.prompt_encoder(points=None, boxes=boxes, masks=None)
        logits, _ = self.sam.mask_decoder(
            image_embeddings=image.features,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=no_mask,
            multimask_output=False,
        )
        return widen(logits)
