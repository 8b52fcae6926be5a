"""The frames of a video with their masks laid over them, as a video again: `save_as=[video]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fmawsss.files.images import read_image
from fmawsss.files.json_files import read_json
from fmawsss.files.writing import replace_file
from fmawsss.viz import choose_colours, overlay_mask
from stages.exports.masks import Export, MaskSet


@dataclass(frozen=True)
class OverlayVideo(Export):
    """One mp4 file, as fast as the video that the frames are from."""

    path: Path | str
    alpha: float

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError when the images are not frames of a video."""
        frames, record = find_frames(masks)
        if not record.is_file():
            raise ValueError(
                f"{frames} holds no frames of a video: save_as=[video] needs a video as "
                "dataset.root"
            )

    def __call__(self, masks: MaskSet) -> None:
        """Write the file."""
        _, record = find_frames(masks)
        with replace_file(Path(self.path)) as temporary:
            partial = temporary.with_suffix(".mp4")  # the encoder goes by the suffix
            encode_overlays(masks, partial, read_json(record)["fps"], self.alpha)
            partial.replace(temporary)


def find_frames(masks: MaskSet) -> tuple[Path, Path]:
    """Return the folder of the frames of a video, and the record of it."""
    frames = next(iter(masks.images.values())).parent
    return frames, frames.with_name(f"{frames.name}.json")


def encode_overlays(masks: MaskSet, path: Path, fps: float, alpha: float) -> None:
    """Encode the overlays in the order of the frames."""
    palette, writer = choose_colours(len(masks.classes)), None
    for name, mask in masks.read():
        overlay = overlay_mask(read_image(masks.images[name]), mask, palette, alpha)
        if writer is None:  # the first frame tells the size
            code = cv2.VideoWriter.fourcc(*"vp09")  # browsers play it
            writer = cv2.VideoWriter(str(path), code, fps, mask.shape[::-1])
        writer.write(np.ascontiguousarray(overlay[:, :, ::-1]))
    writer.release()
