"""The model behind a server: reads a picture that somebody sent, and finds its mask."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError

from fmawsss.files.images import OR_LESS, TooLargeError, read_bounded
from fmawsss.networks.segmenter import Segmentation, Segmenter
from fmawsss.resizing import Picture, Resize, Size, fit_longest, resize_image

BLANK = (64, 64, 3)  # the picture of the first look


@dataclass(frozen=True)
class Shrunk:
    """Shrink large images, then follow a network's own rule.

    longest: the longer side of an image is at most so many pixels before that.
    """

    rule: Resize
    longest: int

    def __call__(self, image: Picture) -> Picture:
        """Resize an image of 8-bit RGB."""
        return resize_image(image, self.find_size(image.shape[:2]))

    def find_size(self, size: Size) -> Size:
        """Return the size that an image of a given size gets."""
        return self.rule.find_size(fit_longest(size, self.longest))


@dataclass(frozen=True)
class Model:
    """A network that looks at one image at a time.

    version: names the weights. megapixels: an image of more is refused before it is decoded.
    """

    segmenter: Segmenter
    version: str
    megapixels: float
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.segmenter.network.parameters()).device

    def look(self, path: Path) -> Segmentation:
        """Find the mask of a picture in a file; only the network's part is one at a time.

        Raises:
            TooLargeError: before it is decoded.
            ValueError: for what is no whole picture. Neither names the file, which the client does
                not know.
        """
        picture = read_upload(path, self.megapixels)
        with self.turn:
            (found,) = self.segmenter.predict([picture])
        return found

    def warm_up(self) -> None:
        """Look at a blank picture: the first look takes longer, and tells whether it works."""
        self.segmenter.predict([np.zeros(BLANK, np.uint8)])


def read_upload(path: Path, megapixels: float) -> Picture:
    """Read a picture that came over the network; see `Model.look` for what is raised."""
    try:
        remedy = "start the server with a larger job.limits.megapixels"
        return read_bounded(path, megapixels, remedy)
    except TooLargeError:
        raise
    except (ValueError, OSError, UnidentifiedImageError) as error:
        said = str(error).replace(f"image {path}", "the image").replace(str(path), "image")
        raise ValueError(said.removesuffix(OR_LESS)) from None


def load_model(checkpoint: Path, device: str | None, longest: int, megapixels: float) -> Model:
    """Load a model onto a device: the GPU where there is one, unless named otherwise."""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    segmenter = Segmenter.from_checkpoint(checkpoint, place)
    segmenter = replace(segmenter, resize=Shrunk(segmenter.resize, longest))
    return Model(segmenter, f"{checkpoint.stem}-{digest_file(checkpoint)}", megapixels)


def digest_file(path: Path) -> str:
    """Digest a file in eight characters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
