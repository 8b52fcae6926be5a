"""Where images come from: a folder, a pattern, one image, a text file that lists images, or a
video.
"""

from __future__ import annotations

import glob
import os
import shutil
from itertools import takewhile
from pathlib import Path

import cv2

from datamodules.images import name_files
from fmawsss.files.images import SUFFIXES
from fmawsss.files.storage import read_json, write_json
from fmawsss.files.texts import read_text

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
LISTS = (".txt",)


def is_video(root: Path) -> bool:
    """Say whether a source is a video."""
    return root.suffix.lower() in VIDEOS and not root.is_dir()


def index_files(root: Path) -> dict[str, Path]:
    """Map names to the images of a source that is no folder and no video.

    An image has its own name, those of a pattern the path below its fixed part, those of a list the
    path below their common folder.

    Raises:
        FileNotFoundError, and ValueError for a file of another kind and for two images of one name.
    """
    if root.is_file() and root.suffix.lower() in LISTS:
        return index_list(root)
    if root.is_file() and root.suffix.lower() in SUFFIXES:
        return {root.stem: root}
    if root.is_file():
        kinds = ", ".join([*SUFFIXES, *LISTS, *VIDEOS])
        raise ValueError(
            f"{root} is neither an image, a list nor a video; dataset.root takes a folder or "
            f"{kinds}"
        )
    if glob.has_magic(str(root)):
        fixed = takewhile(lambda part: not glob.has_magic(part), root.parts)
        return name_files(Path(*fixed), map(Path, glob.glob(str(root), recursive=True)))  # noqa: PTH207 (any root)
    raise FileNotFoundError(
        f"folder {root} does not exist; set dataset.root to a folder of images, or to one image"
    )


def index_list(file: Path) -> dict[str, Path]:
    """Read a list of image files, one per line, relative to the list's own folder or absolute."""
    lines = [line.strip() for line in read_text(file).splitlines()]
    images = [file.parent / line for line in dict.fromkeys(lines) if line]
    missing = [
        image for image in images if image.suffix.lower() not in SUFFIXES or not image.is_file()
    ]
    if missing:
        raise ValueError(
            f"{file} lists {len(missing)} files that are no images, first {missing[0]}: correct "
            "the list"
        )
    return (
        name_files(Path(os.path.commonpath([image.parent for image in images])), images)
        if images
        else {}
    )


def extract_frames(video: Path, folder: Path, step: int) -> None:
    """Write every `step`-th frame of a video as `<folder>/<its number>.jpg`, unless that was done
    before.

    `<folder>.json` says of what video they are, and how fast they follow one another.
    """
    record = folder.with_name(f"{folder.name}.json")
    source = {"video": str(video.resolve()), "bytes": video.stat().st_size, "step": step}
    if folder.is_dir():
        if not record.is_file() or read_json(record)["source"] != source:
            raise ValueError(
                f"{folder} holds frames of another video: delete it, or choose another "
                "dataset.frames"
            )
        return
    capture = cv2.VideoCapture(str(video))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    kept = write_frames(capture, partial, step)
    if not kept:
        raise ValueError(f"video {video} cannot be read: convert it, e.g. to H.264 in an mp4 file")
    write_json(
        record, {"source": source, "frames": kept, "fps": capture.get(cv2.CAP_PROP_FPS) / step}
    )
    partial.replace(folder)


def write_frames(capture: cv2.VideoCapture, folder: Path, step: int) -> int:
    """Write every `step`-th frame, named by its number from 0; return how many there are."""
    number = kept = 0
    while capture.grab():
        if number % step == 0:
            _, frame = capture.retrieve()
            cv2.imwrite(str(folder / f"{number:06d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
            kept += 1
        number += 1
    return kept
